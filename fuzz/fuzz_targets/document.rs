//! Documents and addresses, as the HTTP API is given them.
#![no_main]

use kraken_model::{Document, Path, Pattern, diff};

// A document that was read can be written, read and compared.
fn document(json: &serde_json::Value) {
    let Ok(document) = Document::from_json(json) else { return };
    assert_eq!(Document::from_json(&document.to_json()).as_ref(), Ok(&document));
    let stored = serde_json::to_string(&document).expect("a document can be written");
    let again: Document = serde_json::from_str(&stored).expect("what was written can be read");
    assert_eq!(again, document);
    let changes = diff(&Document::new(), &document);
    let mut rebuilt = Document::new();
    rebuilt.apply(&changes);
    assert_eq!(rebuilt, document);
    for (path, _) in document.iter() {
        let pattern = Pattern::new(path.as_str()).expect("an address is a pattern");
        assert!(pattern.matches(path.as_str()));
    }
}

// The stored form has addresses for keys; what it lets in, the nested form lets in as well.
fn stored(data: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<Document>(data) {
        assert_eq!(Document::from_json(&document.to_json()), Ok(document));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(json) = serde_json::from_slice(data) {
        document(&json);
        stored(data);
    } else if let Some((pattern, path)) =
        std::str::from_utf8(data).ok().and_then(|text| text.split_once(' '))
        && let (Ok(pattern), Ok(path)) = (Pattern::new(pattern), Path::new(path))
    {
        let exact = pattern.exact().is_some_and(|exact| exact == path.as_str());
        assert!(!exact || pattern.matches(path.as_str()));
    }
});
