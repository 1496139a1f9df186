//! What the server does in one step, because two steps could be split by somebody else, or by a failover.
//!
//! Each begins with `#!lua`: then a replica refuses it before it looks at anything, and a full server before it writes.

/// Appends an entry and its mark if the last mark is the one expected, else answers the last id.
///
/// XADD alone would refuse a number that is there already, but would gladly write after a gap: on a key that was lost,
/// deleted, or has gone back. The last item is always a mark, so looking at it costs a few bytes.
///
/// `KEYS[1]` the log; `ARGV` the mark expected last, the id of the entry, the id of its mark, the entry.
pub(super) const APPEND: &str = "#!lua
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local at = last and last[1] or '0-1'
if at ~= ARGV[1] then return at end
local bytes = (last and tonumber(last[2][2]) or 0) + #ARGV[4]
redis.call('XADD', KEYS[1], ARGV[2], 'e', ARGV[4])
redis.call('XADD', KEYS[1], ARGV[3], 'e', string.format('%.0f', bytes))
return 1
";

/// Forgets what is before a mark, if the mark is there: the last one stays whatever is asked.
///
/// `KEYS[1]` the log; `ARGV[1]` the mark.
pub(super) const TRIM: &str = "#!lua
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
";

/// The first and the last mark, as what they count: bytes appended before the first entry that is kept, and in all.
///
/// `KEYS[1]` the log.
pub(super) const SIZE: &str = "#!lua flags=no-writes
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last then return {'0', '0'} end
if #redis.call('XRANGE', KEYS[1], '1-1', '1-1') == 1 then return {'0', last[2][2]} end
return {redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2][2], last[2][2]}
";

/// Makes the pieces of a snapshot permanent and points to them, unless a newer snapshot is there or a piece is gone.
/// Answers the pointer that is of no more use: the older, or the given one; nothing if there is none.
///
/// `KEYS` the pointer, then the pieces; `ARGV` the entry it goes up to, the pointer.
pub(super) const KEEP_SNAPSHOT: &str = "#!lua
local old = redis.call('GET', KEYS[1])
if old and tonumber(string.match(old, '^%d+')) >= tonumber(ARGV[1]) then return ARGV[2] end
for i = 2, #KEYS do
  if redis.call('PERSIST', KEYS[i]) == 0 then return redis.error_reply('GONE a piece of the snapshot has expired') end
end
redis.call('SET', KEYS[1], ARGV[2])
return old
";
