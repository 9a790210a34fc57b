//! Times as people write them.
#![no_main]

use kraken_model::{Millis, Moment};

// What is read is written so that it is read again as the same, and lies on the side that was asked for.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((now, text)) = data.split_first_chunk::<6>() else { return };
    let now = now.iter().fold(0, |now, byte| now << 8 | u64::from(*byte));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(moment) = text.parse::<Moment>() else { return };
    assert_eq!(moment.to_string().parse(), Ok(moment));
    let now = Millis(now);
    assert!(moment.to_come(now).is_none_or(|at| at > now), "{text}");
    assert!(moment.passed(now).is_none_or(|at| at <= now), "{text}");
    let _ = now.rfc3339();
});
