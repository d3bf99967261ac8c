//! What a call gives: values where the server structures its output, else its parts as they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Value, json};

use super::check;
use super::model::{Function, Listing};

/// The answer that programs decode: `{"failed": BOOL, "value": VALUE}` or `{"failed": BOOL, "blocks": [BLOCK, …]}`.
///
/// # Errors
///
/// When it is not what the server's schema promises; `cover` takes out what the message must not show.
pub fn encode(
    listing: &Listing,
    function: &Function,
    result: CallToolResult,
    cover: &dyn Fn(&str) -> String,
) -> Result<Vec<u8>, String> {
    Ok(answer(listing, function, result, cover)?.to_string().into_bytes())
}

/// The same for callers that speak JSON: the value, or what the server says went wrong.
pub fn value(answer: &[u8]) -> Result<Result<Value, Value>, String> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let value = match answer.get_mut("value") {
        Some(value) => value.take(),
        None => match answer.get_mut("blocks").map(Value::take) {
            Some(Value::Array(mut blocks)) => match blocks.len() {
                0 => Value::Null,
                1 => blocks.remove(0),
                _ => Value::Array(blocks),
            },
            _ => Value::Null,
        },
    };
    Ok(if answer["failed"] == true { Err(value) } else { Ok(value) })
}

fn answer(
    listing: &Listing,
    function: &Function,
    result: CallToolResult,
    cover: &dyn Fn(&str) -> String,
) -> Result<Value, String> {
    let failed = result.is_error.unwrap_or(false);
    let structured = result.structured_content;
    // Of an error its words are what helps.
    if failed {
        let blocks = blocks(result.content);
        return Ok(match (blocks.is_empty(), structured) {
            (true, Some(value)) => json!({ "failed": true, "value": value }),
            _ => json!({ "failed": true, "blocks": blocks }),
        });
    }
    match (structured, function.structured) {
        (Some(mut value), true) => {
            if function.wrapped {
                let inner = value.get_mut("result").map(Value::take);
                value = inner.ok_or("its structured output lacks `result`, which its schema promises")?;
            }
            check::result(listing, &function.result, &value, cover).map_err(|message| {
                format!("its structured output is not what its schema promises: {message}")
            })?;
            Ok(json!({ "failed": false, "value": value }))
        }
        (Some(value), false) => Ok(json!({ "failed": false, "value": value })),
        (None, true) => Err("it gave no structured output, which its schema promises".to_owned()),
        (None, false) => Ok(json!({ "failed": false, "blocks": blocks(result.content) })),
    }
}

fn blocks(content: Vec<ContentBlock>) -> Vec<Value> {
    content.into_iter().map(block).collect()
}

/// A part: text is a string, all else an object with its `type`; data are in `base64`.
fn block(block: ContentBlock) -> Value {
    let data = |kind: &str, data: String, mime: String| match STANDARD.decode(&data) {
        Ok(_) => json!({ "type": kind, "mime_type": mime, "base64": data }),
        Err(_) => json!({ "type": kind, "mime_type": mime, "text": data }),
    };
    match block {
        ContentBlock::Text(text) => Value::String(text.text),
        ContentBlock::Image(image) => data("image", image.data, image.mime_type),
        ContentBlock::Audio(audio) => data("audio", audio.data, audio.mime_type),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
                json!({ "type": "resource", "uri": uri, "mime_type": mime_type, "text": text })
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let mut value = data("resource", blob, mime_type.unwrap_or_default());
                value["uri"] = uri.into();
                value
            }
            other => serde_json::to_value(other).unwrap_or_default(),
        },
        ContentBlock::ResourceLink(link) => json!({
            "type": "resource_link",
            "uri": link.uri,
            "name": link.name,
            "description": link.description,
            "mime_type": link.mime_type,
        }),
        // What later versions of the protocol may have.
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}
