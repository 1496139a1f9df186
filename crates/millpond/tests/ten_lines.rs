//! The README's example does what it says, twice on one store too.

#[allow(dead_code)] // Its main.
#[path = "../examples/ten_lines.rs"]
mod ten_lines;

#[tokio::test]
async fn the_ten_lines_run() {
    assert_eq!(ten_lines::run("memory:").await.unwrap(), 1);
}
