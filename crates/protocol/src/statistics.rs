//! The statistics extension.

use std::fmt::Write as _;

use crate::json::push_string;

/// A count and the nanoseconds spent in total.
pub type TimeRow = (u64, u64);

/// Statistics of one version; names as on the wire.
#[derive(Debug, Default)]
pub struct StatisticsRow {
    pub name: String,
    pub version: i64,
    pub last_inference: u64,
    pub inference_count: u64,
    pub execution_count: u64,
    /// In the order of the wire: success, fail, queue, compute_input, compute_infer,
    /// compute_output, cache_hit, cache_miss.
    pub inference_stats: [TimeRow; 8],
    /// Batch size with compute_input, compute_infer, compute_output.
    pub batch_stats: Vec<(u64, [TimeRow; 3])>,
    /// By position: compute_infer, compute_output, success, fail, empty_response, cancel.
    pub response_stats: Vec<[TimeRow; 6]>,
}

const RESPONSE: [&str; 6] =
    ["compute_infer", "compute_output", "success", "fail", "empty_response", "cancel"];

const INFERENCE: [&str; 8] = [
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
];

/// `GET /v2/models/stats` and its like.
pub fn statistics(rows: &[StatisticsRow]) -> Vec<u8> {
    let models: Vec<String> = rows.iter().map(model).collect();
    format!("{{\"model_stats\":[{}]}}", models.join(",")).into_bytes()
}

fn model(row: &StatisticsRow) -> String {
    let mut name = Vec::new();
    push_string(&mut name, row.name.as_bytes());
    let batches: Vec<String> = row
        .batch_stats
        .iter()
        .map(|(size, times)| {
            format!("{{\"batch_size\":{size},{}}}", members(&INFERENCE[3..6], times))
        })
        .collect();
    let responses: Vec<String> = row
        .response_stats
        .iter()
        .enumerate()
        .map(|(index, times)| format!("\"{index}\":{{{}}}", members(&RESPONSE, times)))
        .collect();
    let mut json = String::from("{\"name\":");
    json.push_str(&String::from_utf8_lossy(&name));
    // Writing to memory does not fail.
    let _ = write!(
        json,
        ",\"version\":\"{}\",\"last_inference\":{},\"inference_count\":{},\"execution_count\":{},\
         \"inference_stats\":{{{}}},\"response_stats\":{{{}}},\"batch_stats\":[{}],\
         \"memory_usage\":[]}}",
        row.version,
        row.last_inference,
        row.inference_count,
        row.execution_count,
        members(&INFERENCE, &row.inference_stats),
        responses.join(","),
        batches.join(",")
    );
    json
}

fn members(names: &[&str], times: &[TimeRow]) -> String {
    let members: Vec<String> = names
        .iter()
        .zip(times)
        .map(|(name, (count, ns))| format!("\"{name}\":{{\"count\":{count},\"ns\":{ns}}}"))
        .collect();
    members.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model() {
        let row = StatisticsRow {
            name: "m".into(),
            version: 2,
            inference_count: 5,
            batch_stats: vec![(1, [(1, 10), (1, 20), (1, 30)])],
            response_stats: vec![[(1, 7); 6]],
            ..StatisticsRow::default()
        };
        let json = String::from_utf8(statistics(&[row])).unwrap();
        assert!(json.starts_with(r#"{"model_stats":[{"name":"m","version":"2","#), "{json}");
        assert!(json.contains(r#""inference_stats":{"success":{"count":0,"ns":0},"fail""#));
        assert!(json.contains(r#""response_stats":{"0":{"compute_infer":{"count":1,"ns":7},"#));
        let batch = r#"{"batch_size":1,"compute_input":{"count":1,"ns":10},"compute_infer""#;
        assert!(json.contains(batch), "{json}");
    }
}
