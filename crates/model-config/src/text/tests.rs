use std::path::Path;

use super::parse;
use crate::ModelConfig;

fn read(text: &str) -> ModelConfig {
    parse(text, Path::new("m/config.pbtxt")).unwrap()
}

fn problem(text: &str) -> String {
    parse(text, Path::new("m/config.pbtxt")).unwrap_err().message().to_owned()
}

#[test]
fn lists_do_without_a_colon() {
    let with = read("input: [ { name: \"A\" dims: [ 1, -2 ] } ] output: []");
    assert_eq!(read("input [ { name: 'A' dims [ 1, -2 ] } ] output []"), with);
    assert_eq!(read("input { name: 'A' dims: 1 dims: -2 }"), with);
    assert_eq!(with.input[0].dims, [1, -2]);
}

#[test]
fn strings_are_joined_and_unescaped() {
    let text = r#"name: 'a"\'' "\x41\102\n" # [ no list
        "é\u00e9\303\251[{#" platform: "";"#;
    assert_eq!(read(text).name, "a\"'AB\nééé[{#");
}

#[test]
fn numbers_of_all_spellings() {
    assert_eq!(read("max_batch_size: 0x1F").max_batch_size, 31);
    assert_eq!(read("max_batch_size: 017;").max_batch_size, 15);
    assert_eq!(read("max_batch_size: - 2147483648,").max_batch_size, i32::MIN);
    let metrics = "model_metrics { metric_control { histogram_options { buckets: \
                   [ 1, .5, 1e-3, 2f, -inf ] } } }";
    let metrics = read(metrics).model_metrics.unwrap();
    let Some(crate::model_metrics::metric_control::MetricOptions::HistogramOptions(options)) =
        &metrics.metric_control[0].metric_options
    else {
        panic!("no histogram options")
    };
    assert_eq!(options.buckets, [1.0, 0.5, 1e-3, 2.0, f64::NEG_INFINITY]);
}

#[test]
fn problems_tell_where_they_are() {
    for (text, expected) in [
        (
            "name: \"m\"\n  dynamic_bathcing { }\n",
            "2:3: Message type \"inference.ModelConfig\" has no field named \
             \"dynamic_bathcing\". Did you mean \"dynamic_batching\"? (near 'dynamic_bathcing')",
        ),
        (
            "input [ { nonsense: 1 } ]",
            "1:11: Message type \"inference.ModelInput\" has no field named \"nonsense\". (near \
             'nonsense')",
        ),
        (
            "input [ { data_type: TYPE_FP23 } ]",
            "1:22: Unknown enumeration value of \"TYPE_FP23\" for field \"data_type\". Did you \
             mean \"TYPE_FP32\"? (near 'TYPE_FP23')",
        ),
        ("name: 4", "1:7: Expected string, got: 4 (near '4')"),
        ("name \"m\"", "1:6: Expected \":\", found \"\"m\"\". (near '\"m\"')"),
        ("input {", "1:8: Expected \"}\", found \"end of file\". (near 'end of file')"),
        ("# é\nname: \"é\" é", "2:11: Expected field name, got: é (near 'é')"),
        (
            "max_batch_size: 1\nmax_batch_size: 2",
            "2:1: Non-repeated field \"max_batch_size\" is specified multiple times. (near \
             'max_batch_size')",
        ),
        (
            "max_batch_size: -3000000000",
            "1:17: Integer out of range (-3000000000). (near '-3000000000')",
        ),
        ("max_batch_size: 3x", "1:17: Invalid number: 3x. (near '3x')"),
        (
            "name: \"m\nplatform: 1",
            "1:7: String literals cannot cross line boundaries. (near '\"m')",
        ),
        ("name: '\\q'", "1:7: Invalid escape sequence in string. (near ''\\q'')"),
    ] {
        assert_eq!(problem(text), format!("m/config.pbtxt:{expected}"));
    }
}

#[test]
fn a_cut_text_is_a_problem_and_no_panic() {
    let text = include_str!("../../tests/served/text_styles.pbtxt").to_owned()
        + "\nname: \"é\\u00e9\" metric_tags { key: 'é' value: \"\\xff\" }";
    for (end, _) in text.char_indices() {
        if let Err(error) = parse(&text[..end], Path::new("cut")) {
            assert!(error.message().starts_with("cut:"));
        }
    }
    assert!(problem(&text).contains("String is not valid UTF-8."));
}
