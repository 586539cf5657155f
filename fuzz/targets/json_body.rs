//! Requests in JSON: of inference, of generate, and of everything else that has a body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nereid_fuzz::{config, is_whole};
use nereid_protocol::{
    parse_generate_request, parse_index_request, parse_infer_request, parse_load_request,
    parse_register_request, parse_unload_request,
};

fuzz_target!(|text: &[u8]| {
    let config = config();
    let body = Bytes::copy_from_slice(text);
    let parsed = [
        parse_infer_request(&config, &body, text.len(), 1 << 20),
        parse_generate_request(&config, text, 1 << 20),
    ];
    for request in parsed.into_iter().flatten() {
        for input in &request.inputs {
            // There is nothing behind the JSON, so all of it was made of JSON, or is elsewhere.
            assert!(input.data.is_empty() || is_whole(input.datatype, &input.shape, input.data.len()));
        }
    }
    let _ = parse_load_request(text);
    let _ = parse_unload_request(text);
    let _ = parse_index_request(text);
    let _ = parse_register_request(text);
});
