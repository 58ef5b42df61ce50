//! The strategy study: what is counted, not how long it takes.

use serde_json::Value;
use std::process::Command;

fn row<'a>(rows: &'a Value, strategy: &str) -> &'a Value {
    let rows = rows.as_array().expect("a list");
    let found = rows.iter().find(|row| row["strategy"].as_str().expect("a name").starts_with(strategy));
    found.unwrap_or_else(|| panic!("no row {strategy} in {rows:?}"))
}

fn count(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} in {row}"))
}

#[test]
fn strategies_differ_in_what_they_should() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_cipherlens"))
        .args("bench strategies --model mnist-micro --quick --json --plot s.svg --output s.json".split(' '))
        .env_remove("CIPHERLENS_DATA")
        .current_dir(folder.path())
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let file = std::fs::read(folder.path().join("s.json")).expect("the results");
    assert_eq!(serde_json::from_slice::<Value>(&file).expect("JSON"), report);
    let plot = std::fs::read_to_string(folder.path().join("s.svg")).expect("the plot");
    assert!(plot.starts_with("<svg") && plot.contains("1 image") && plot.contains("batch of"));
    assert!(report["commit"].is_string() && report["backend"].is_string() && report["flags"].is_string());
    assert_eq!(report["left_out"].as_array().map(Vec::len), Some(0));

    let rows = &report["rows"];
    for row in rows.as_array().expect("rows") {
        assert!(row["max_error"].as_f64().is_some_and(|error| error < 0.2), "{row}");
        assert!(row["predicted_bits"].as_f64().is_some_and(|bits| bits > 7.0), "{row}");
    }
    let one = row(rows, "1 image");
    let same =
        |other: &Value, fields: &[&str]| fields.iter().for_each(|f| assert_eq!(one[f], other[f], "{f}: {other}"));
    let more = |other: &Value, field: &str| assert!(count(other, field) > count(one, field), "{field}: {other}");
    assert!(count(one, "rotations") > 0 && count(one, "cache_bytes") > 0);
    assert!(count(one, "prepared_key_bytes") > count(one, "key_bytes") * 19 / 10, "seeds are half of a key");

    assert_eq!(count(row(rows, "2 images"), "images"), 2);
    let batch = row(rows, "batch of");
    assert_eq!((count(batch, "rotations"), count(batch, "images") % 4096), (0, 0));
    assert!((1..count(batch, "images")).contains(&count(batch, "key_switches")) && batch["take_in_ms"].is_number());
    assert!(count(batch, "key_bytes") < count(one, "key_bytes"), "one key");

    let expanded = row(rows, "compact, expanded");
    same(expanded, &["program_bytes", "key_switches", "key_bytes"]);
    more(expanded, "transforms");
    let ntt = row(rows, "Ntt form");
    same(ntt, &["transforms", "key_switches", "key_bytes"]);
    more(ntt, "program_bytes");
    assert_eq!((count(expanded, "cache_bytes"), count(ntt, "cache_bytes")), (0, 0));

    let alone = row(rows, "none, every rotation");
    same(alone, &["key_switches", "rotations", "key_bytes"]);
    more(alone, "transforms");

    let top = row(rows, "all at the top level");
    same(top, &["key_switches", "transforms", "program_bytes"]);
    more(top, "key_bytes");
    let in_place = row(rows, "seeds expanded");
    same(in_place, &["key_switches", "transforms", "key_bytes"]);
    assert_eq!(count(in_place, "prepared_key_bytes"), 0);

    let layers = &report["layers"];
    let of = |strategy: &str| (count(row(layers, strategy), "key_switches"), count(row(layers, strategy), "rotations"));
    assert_eq!((of("product, plain"), of("product, encrypted")), ((0, 0), (1, 0)));
    assert_eq!((of("dense 64x64 by rows, plain"), of("dense 64x64 by rows, encrypted")), ((14, 14), (15, 14)));
    assert_eq!(of("dense 64x64 by diagonals, plain"), (14, 14));
    let inputs = |strategy: &str| row(layers, strategy)["input_bytes_per_image"].as_f64().expect("bytes");
    assert_eq!(inputs("product, encrypted"), 2.0 * inputs("product, plain"), "the weights are a ciphertext, too");
    for layer in layers.as_array().expect("layers") {
        assert!(layer["max_error"].as_f64().is_some_and(|error| error < 0.05), "{layer}");
    }
}
