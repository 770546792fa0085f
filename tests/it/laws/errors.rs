//! Every error code is documented with its status.

use std::fs;

use cardwire::error::Code;

#[test]
fn every_code_is_documented() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
    let rows = |code: &Code| format!("| `{}` | {} |", code.word(), code.status());
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !docs.contains(&rows(code))).map(|code| code.word()).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
