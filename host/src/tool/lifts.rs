//! How a component lifts its `async func`s, which its WIT does not say: the results of one that is
//! lifted as a plain function come in another way.

use wasmparser::component_types::ComponentAnyTypeId;
use wasmparser::{CanonicalFunction, CanonicalOption, Parser, Payload, Validator, WasmFeatures};
use wit_parser::abi::{FlatTypes, WasmType};
use wit_parser::{Resolve, Type};

/// Whether a component uses what overlapping calls need, in itself or in what it is composed of.
pub(super) fn is_concurrent(component: &[u8]) -> bool {
    let asynchronous = WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_MORE_ASYNC_BUILTINS
        | WasmFeatures::CM_ERROR_CONTEXT
        | WasmFeatures::CM_THREADING;
    let mut validator = Validator::new_with_features(WasmFeatures::all().difference(asynchronous));
    let mut payloads = Parser::new(0).parse_all(component);
    // What is wrong in another way is found by the engine as well.
    !payloads.all(|payload| payload.is_ok_and(|payload| validator.payload(&payload).is_ok()))
}

/// Whether `async func`s are lifted as plain functions.
///
/// # Errors
///
/// When some are and others are not, so that nothing is known of one of them.
pub(super) fn plainly(component: &[u8]) -> Result<bool, String> {
    let invalid = |error| format!("is not a valid component: {error}");
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let (mut plain, mut asynchronous) = (false, false);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(invalid)?;
        validator.payload(&payload).map_err(invalid)?;
        let Payload::ComponentCanonicalSection(section) = payload else { continue };
        for function in section {
            let CanonicalFunction::Lift { type_index, options, .. } = function.map_err(invalid)? else {
                continue;
            };
            let Some(types) = validator.types(0) else { continue };
            let ComponentAnyTypeId::Func(ty) = types.component_any_type_at(type_index) else { continue };
            if types[ty].async_ {
                match options.contains(&CanonicalOption::Async) {
                    true => asynchronous = true,
                    false => plain = true,
                }
            }
        }
    }
    match plain && asynchronous {
        true => {
            Err("lifts some of its `async func`s with `async` and some without, which is not supported"
                .into())
        }
        false => Ok(plain),
    }
}

/// In how many registers a result comes, of which there are `most`.
pub(super) fn registers(resolve: &Resolve, result: Option<&Type>, most: usize) -> u8 {
    let mut types = [WasmType::I32; Resolve::MAX_FLAT_PARAMS];
    let mut flat = FlatTypes::new(&mut types[..most]);
    match result.is_none_or(|ty| resolve.push_flat(ty, &mut flat)) {
        true => flat.to_vec().len() as u8,
        false => 1,
    }
}
