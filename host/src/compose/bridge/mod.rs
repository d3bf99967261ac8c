//! The bridge for the tools of one program: a core module made once, with imports, calls and data put
//! in, made a component by wit-component.

mod module;
mod world;

use wasm_encoder as we;
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, ResourceIntrinsic, WasmImport};

use super::data::{Program, Target};
use super::types::{Reader, Types};
use super::{Part, broken};
use crate::Result;
use crate::tool::describe::{Kind, Shape, Type};

use world::World;
pub(super) use world::import_name;

static BRIDGE: &[u8] = include_bytes!("../../../../compose/prebuilt/bridge.wasm");
static RUNNER: &[u8] = include_bytes!("../../../../compose/prebuilt/runner.wasm");

/// Where the bridge imports what is generated.
const GENERATED: &str = "agentkernel:composed";

const MANGLING: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);

/// The component that starts a program.
pub(super) fn runner() -> Result<Vec<u8>> {
    component(RUNNER)
}

fn component(module: &[u8]) -> Result<Vec<u8>> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(broken)
}

/// The bridge for a program and its tools. What it imports of tool number N is prefixed: see [`World`].
pub(super) fn make(parts: &[Part], program: Program, exit_codes: bool) -> Result<Vec<u8>> {
    let mut types = Types::default();
    let mut targets = Vec::new();
    let mut generated = Generated::default();
    for (number, part) in parts.iter().enumerate() {
        let world = World::of(number, part)?;
        generated.tool(part, &world, &mut types, &mut targets)?;
        generated.metadata.push(world.metadata().map_err(|error| {
            part.bad("has types that cannot be imported by another component").source(error)
        })?);
    }
    generated.data = program.encode(&types, &targets);
    component(&generated.module(exit_codes)?)
}

/// A core function that the bridge imports of a tool.
struct Import {
    module: String,
    name: String,
    parameters: Vec<we::ValType>,
    result: Option<we::ValType>,
}

/// What is put into the bridge.
#[derive(Default)]
struct Generated {
    calls: Vec<Import>,
    drops: Vec<Import>,
    data: Vec<u8>,
    /// What the imports are in WIT, encoded, for each tool.
    metadata: Vec<Vec<u8>>,
}

impl Generated {
    fn tool(
        &mut self,
        part: &Part,
        world: &World,
        types: &mut Types,
        targets: &mut Vec<Target>,
    ) -> Result<()> {
        let described = &part.description;
        let mut next_resource = self.drops.len();
        let numbered = described.types.iter().map(|ty| {
            let number = next_resource;
            next_resource += usize::from(ty.shape == Shape::Resource);
            number
        });
        let resources: Vec<usize> = numbered.collect();
        let mut reader = Reader::new(types, described, &resources);
        for interface in &described.interfaces {
            for function in &interface.functions {
                if function.is_async {
                    let why = format!(
                        "`{}` is an `async func`, which a composed program cannot call",
                        function.name
                    );
                    targets.push(Target::Refused(why));
                    continue;
                }
                let (key, wit) = world
                    .function(&interface.export, &function.export)
                    .ok_or_else(|| part.bad(format!("does not export `{}`, as it says", function.export)))?;
                let signature = world.resolve.wasm_signature(AbiVariant::GuestImport, wit);
                let own = match function.kind {
                    Kind::Method(of) => Some(Type::Borrow(of)),
                    _ => None,
                };
                let parameters =
                    reader.parameters(own.iter().chain(function.parameters.iter().map(|(_, ty)| ty)));
                let result = function.result.as_ref().map(|ty| reader.ty(ty));
                check(&signature, reader.types.flat(parameters))?;
                targets.push(Target::Function {
                    call: self.calls.len(),
                    parameters,
                    result,
                    indirect: signature.indirect_params,
                    returns_in_memory: signature.retptr,
                });
                let import = WasmImport::Func { interface: key, func: wit };
                let (module, name) = world.resolve.wasm_import_name(MANGLING, import);
                self.calls.push(Import {
                    module,
                    name,
                    parameters: signature.params.iter().map(core_type).collect(),
                    result: signature.results.first().map(core_type),
                });
            }
        }
        for (index, ty) in described.types.iter().enumerate() {
            if ty.shape != Shape::Resource {
                targets.push(Target::Refused("this type is no resource".to_owned()));
                continue;
            }
            let (key, resource) = world.resource(described, index).ok_or_else(|| {
                part.bad(format!("uses the resource `{}` of more than one interface", ty.name))
            })?;
            let intrinsic = ResourceIntrinsic::ImportedDrop;
            let import = WasmImport::ResourceIntrinsic { interface: Some(key), resource, intrinsic };
            let (module, name) = world.resolve.wasm_import_name(MANGLING, import);
            targets.push(Target::Close(self.drops.len()));
            self.drops.push(Import { module, name, parameters: vec![we::ValType::I32], result: None });
        }
        Ok(())
    }
}

/// The layouts are ours, the signature is wit-parser's; they must agree.
fn check(signature: &WasmSignature, flat: usize) -> Result<()> {
    let expected = if signature.indirect_params { 1 } else { flat } + usize::from(signature.retptr);
    if signature.params.len() == expected && signature.indirect_params == (flat > 16) {
        Ok(())
    } else {
        Err(broken("a function's registers are miscounted"))
    }
}

fn core_type(ty: &WasmType) -> we::ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => we::ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => we::ValType::I64,
        WasmType::F32 => we::ValType::F32,
        WasmType::F64 => we::ValType::F64,
    }
}
