//! Times as people write them.

use super::Problem;
use kraken_model::{Millis, Moment, MomentError};

fn moment(text: &str) -> Result<Moment, Problem> {
    text.parse().map_err(|error: MomentError| Problem::bad_request("not a time", error.to_string()))
}

/// A time that is still to come.
///
/// # Errors
/// When the text is no time, or one that has passed.
pub(super) fn to_come(text: &str, now: Millis) -> Result<Millis, Problem> {
    moment(text)?.to_come(now).ok_or_else(|| {
        let detail = format!(
            "{text:?} has passed, for it is {} here: say a time that is still to come, such as 2h",
            now.rfc3339()
        );
        Problem::bad_request("not an end", detail)
    })
}

/// A time that has passed.
///
/// # Errors
/// When the text is no time, or one that is still to come.
pub(super) fn passed(text: &str, now: Millis) -> Result<Millis, Problem> {
    moment(text)?.passed(now).ok_or_else(|| {
        let detail = format!(
            "{text:?} is still to come, for it is {} here: say a time that has passed, such as 2h",
            now.rfc3339()
        );
        Problem::bad_request("nothing is known of that time yet", detail)
    })
}
