//! Combinations of a domain's filters: each one's pages are compared with what a model says, and with the rows that
//! the engine handed over for them.
//!
//! Records have numbers. One in eight meets a condition, independently of the others, and every needle meets all of
//! them, so that no combination is empty. A filter that is not the engine's own therefore either reads at least eight
//! rows for each one it shows, or shows too few.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use millpond::{Commit, Document, Page, PageCursor, Pond, Records, Result};

use crate::support::CountingEngine;

/// Records a page. By promise such a page reads 200 rows at most; what is asserted is what it takes: its own rows,
/// and one more.
pub const PAGE: usize = 50;

/// Whether the record of this number meets a condition.
pub fn meets(number: u32, condition: u32, needle: u32) -> bool {
    number.is_multiple_of(needle) || mixed(number, condition).is_multiple_of(8)
}

/// An even spread of numbers, another one for each condition.
fn mixed(number: u32, condition: u32) -> u32 {
    let mut x = (u64::from(number) << 8 | u64::from(condition)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    (x.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as u32
}

/// One condition a filter offers: how it is set, and which records meet it.
pub struct Condition<F> {
    pub name: &'static str,
    pub set: fn(F) -> F,
    pub met: fn(u32) -> bool,
}

impl<F> Condition<F> {
    pub fn new(name: &'static str, set: fn(F) -> F, met: fn(u32) -> bool) -> Self {
        Self { name, set, met }
    }
}

/// Every combination of so many conditions.
pub fn every(conditions: usize) -> impl Iterator<Item = u32> + Clone {
    0..1_u32 << conditions
}

/// Reads two pages of each combination. `numbers` are all records in the order of the list; `list` reads a page of
/// [`PAGE`] and gives back the numbers it holds.
pub async fn check<F, Read>(
    counting: &CountingEngine,
    conditions: &[Condition<F>],
    combinations: impl Iterator<Item = u32>,
    numbers: impl Iterator<Item = u32> + Clone,
    list: impl Fn(F, Option<PageCursor>) -> Read,
) where
    F: Default,
    Read: Future<Output = Result<Page<u32>>>,
{
    for combination in combinations {
        let chosen: Vec<&Condition<F>> =
            conditions.iter().enumerate().filter(|(i, _)| combination >> i & 1 == 1).map(|(_, c)| c).collect();
        let names: Vec<&str> = chosen.iter().map(|c| c.name).collect();
        let filter = || chosen.iter().fold(F::default(), |filter, c| (c.set)(filter));
        let expected: Vec<u32> = numbers.clone().filter(|n| chosen.iter().all(|c| (c.met)(*n))).take(2 * PAGE + 1).collect();
        assert!(expected.len() > 2 * PAGE, "{names:?}: only {} records meet this", expected.len());

        counting.take_rows();
        let first = list(filter(), None).await.expect("listed");
        let rows = counting.take_rows();
        assert_eq!(first.items, expected[..PAGE], "{names:?}: the first page");
        assert!(rows <= PAGE as u64 + 1, "{names:?}: the first page read {rows} rows");
        let second = list(filter(), first.next).await.expect("listed");
        let rows = counting.take_rows();
        assert_eq!(second.items, expected[PAGE..2 * PAGE], "{names:?}: the second page");
        assert!(second.next.is_some(), "{names:?}: there is a third page");
        assert!(rows <= PAGE as u64 + 1, "{names:?}: the second page read {rows} rows");
    }
}

/// Stores a document for each number, a few thousand a commit. One commit is made while another one is stored.
pub async fn fill<T: Document>(pond: &Pond, count: u32, make: fn(u32) -> T) {
    const A_COMMIT: u32 = 4_000;
    let next = Arc::new(AtomicU32::new(0));
    let fillers: Vec<_> = (0..2)
        .map(|_| {
            let (pond, next) = (pond.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let from = next.fetch_add(A_COMMIT, Ordering::SeqCst);
                    if from >= count {
                        return;
                    }
                    let writes = (from..count.min(from + A_COMMIT)).map(|n| Records::put(&make(n)).expect("a document"));
                    pond.commit(writes.fold(Commit::new().trusted(), Commit::write)).await.expect("stored");
                }
            })
        })
        .collect();
    for filler in fillers {
        filler.await.expect("a filler ends");
    }
}

/// The page of these numbers.
pub fn numbered<T>(page: Page<T>, number: impl Fn(T) -> u32) -> Page<u32> {
    assert!(page.damaged.is_empty(), "{:?}", page.damaged);
    Page { items: page.items.into_iter().map(number).collect(), next: page.next, damaged: Vec::new() }
}
