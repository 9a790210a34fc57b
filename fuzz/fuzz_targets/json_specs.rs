//! What a node is handed as JSON: its seed, the image it is to run, the container to put together. One
//! input is read as each of them: which is meant shows in its fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    layercake_seed::fuzz_seed(data);
    layercake_node::image::fuzz_image_spec(data);
    layercake_node::container::fuzz_container_spec(data);
});
