//! What values of the configuration look like, for its schema: `#[schemars(with = "Option<schema::Size>")]`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A kind of text; `format` is what the page of the configuration calls it.
macro_rules! text {
    ($(#[$docs:meta])* $name:ident, $format:literal, $pattern:literal) => {
        $(#[$docs])*
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern })
            }
        }
    };
}

text!(
    /// `256MiB`.
    Size, "size", r"^\s*[0-9.]+\s*([kKmMgG]i?)?[bB]?\s*$"
);
text!(
    /// `30s`.
    Time, "time", r"^\s*[0-9.]+\s*(ms|s|m|min|h)?\s*$"
);
text!(
    /// `30s` or `none`.
    TimeOrNone, "time or none", r"^\s*([0-9.]+\s*(ms|s|m|min|h)?|none)\s*$"
);
text!(
    /// A file or directory; relative ones start where the configuration lies.
    PathText, "path", "^."
);
