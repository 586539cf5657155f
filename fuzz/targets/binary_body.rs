//! Requests with binary tensors behind their JSON. The first two bytes say where those begin.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nereid_fuzz::config;
use nereid_protocol::{parse_infer_request, raw_infer_request};

fuzz_target!(|input: &[u8]| {
    let Some((length, body)) = input.split_first_chunk::<2>() else { return };
    let body = Bytes::copy_from_slice(body);
    let config = config();
    let length = usize::from(u16::from_le_bytes(*length));
    if let Ok(request) = parse_infer_request(&config, &body, length, 1 << 20) {
        let sent: usize = request.inputs.iter().map(|input| input.data.len()).sum();
        // Two characters make at most eight bytes.
        assert!(sent <= 4 * body.len());
    }
    let mut one = config.clone();
    one.input.truncate(1);
    let _ = raw_infer_request(&one, body.clone());
    one.input = config.input[1..2].to_vec();
    let _ = raw_infer_request(&one, body);
});
