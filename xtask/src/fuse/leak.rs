//! Bytes that the interpreter's runtime never frees.
//!
//! componentize-py 0.25 copies a `bytes` that a program passes to an import as `list<u8>` into memory
//! of its own and forgets it. The fused module calls such an import through a function that frees the
//! copy. Imports that C code calls are none of that: their bytes are the caller's.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use wit_component::DecodedWasm;
use wit_parser::abi::{FlatTypes, WasmType};
use wit_parser::{Resolve, Type, TypeDefKind, WorldItem};

/// The package whose functions Python calls, and nothing else does.
const PACKAGE: &str = "agentkernel:kernel/";

/// More core parameters than a function has that passes them directly.
const MAX_FLAT: usize = 16;

/// The core parameters of each import that point to such a copy, by interface and function.
pub type Leaks = HashMap<(String, String), Vec<u32>>;

pub fn find(component: &[u8]) -> Result<Leaks> {
    let mut leaks = Leaks::new();
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        return Ok(leaks);
    };
    for item in resolve.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        let name = resolve.id_of(*id).filter(|name| name.starts_with(PACKAGE));
        let Some(interface) = name else { continue };
        for (name, function) in &resolve.interfaces[*id].functions {
            let mut at = 0;
            let mut pointers = Vec::new();
            for parameter in &function.params {
                if is_bytes(&resolve, &parameter.ty) {
                    pointers.push(u32::try_from(at)?);
                }
                let mut storage = [WasmType::I32; MAX_FLAT];
                let mut flat = FlatTypes::new(&mut storage);
                resolve.push_flat(&parameter.ty, &mut flat);
                at += flat.to_vec().len();
            }
            if !pointers.is_empty() {
                ensure!(at < MAX_FLAT, "`{name}` of `{interface}` passes its parameters in memory");
                leaks.insert((interface.clone(), name.clone()), pointers);
            }
        }
    }
    Ok(leaks)
}

fn is_bytes(resolve: &Resolve, ty: &Type) -> bool {
    let Type::Id(id) = ty else { return false };
    match &resolve.types[*id].kind {
        TypeDefKind::Type(ty) => is_bytes(resolve, ty),
        TypeDefKind::List(element) => matches!(element, Type::U8 | Type::S8),
        _ => false,
    }
}
