//! The example does what it says.

#[allow(dead_code)] // Its main.
#[path = "../examples/own_documents.rs"]
mod own_documents;

#[tokio::test]
async fn the_example_runs() {
    let said = own_documents::run("memory:").await.expect("runs");
    let expected = [
        "pro tenants by seats: acme, birch",
        "tenants in ap: 1",
        "refused: the store holds revision 2",
        "acme has 46 seats",
        "tenants: 4",
    ];
    assert_eq!(said, expected);
}
