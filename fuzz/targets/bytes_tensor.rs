//! The elements of BYTES tensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nereid_inference::{BytesElements, push_bytes_element};

fuzz_target!(|data: &[u8]| {
    let mut again = Vec::new();
    let mut whole = true;
    for element in BytesElements::new(data) {
        match element {
            Ok(element) => push_bytes_element(&mut again, element),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    assert!(data.starts_with(&again));
    assert_eq!(whole, again.len() == data.len());
});
