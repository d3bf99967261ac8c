//! How a component lifts its `async func`s, which its WIT does not say: the results of one that is
//! lifted as a plain function come in another way.

use wasmparser::component_types::ComponentAnyTypeId;
use wasmparser::{CanonicalFunction, CanonicalOption, Parser, Payload, Validator, WasmFeatures};
use wasmtime_environ::component::{MAX_FLAT_PARAMS, MAX_FLAT_RESULTS};

use super::describe::{Description, Shape, Type};

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

/// In how many registers a result comes.
pub(super) fn registers(described: &Description, result: Option<&Type>) -> usize {
    let most = if described.lifted_plainly { MAX_FLAT_RESULTS } else { MAX_FLAT_PARAMS };
    match result.map_or(0, |ty| flat(described, ty)) {
        count if count > most => 1,
        count => count,
    }
}

/// How many values of core WebAssembly a type is; no more than is needed to see that it is too many.
fn flat(described: &Description, ty: &Type) -> usize {
    let sum = |types: &mut dyn Iterator<Item = &Type>| {
        types.fold(0usize, |sum, ty| if sum > MAX_FLAT_PARAMS { sum } else { sum + flat(described, ty) })
    };
    let case = |payloads: &mut dyn Iterator<Item = &Type>| {
        1 + payloads.map(|ty| flat(described, ty)).max().unwrap_or_default()
    };
    match ty {
        Type::String | Type::Json | Type::List(_) | Type::Map(..) => 2,
        Type::Tuple(types) => sum(&mut types.iter()),
        Type::Array(element, count) => flat(described, element).saturating_mul(*count as usize),
        Type::Option(inner) => case(&mut std::iter::once(&**inner)),
        Type::Result(ok, error) => case(&mut ok.iter().chain(error).map(|ty| &**ty)),
        Type::Named(index) => match &described.types[*index].shape {
            Shape::Record(fields) => sum(&mut fields.iter().map(|field| &field.ty)),
            Shape::Variant(cases) => case(&mut cases.iter().filter_map(|case| case.ty.as_ref())),
            Shape::Flags(flags) => flags.len().div_ceil(32),
            Shape::Enum(_) | Shape::Resource => 1,
        },
        _ => 1,
    }
}
