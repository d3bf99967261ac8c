//! What a tool exports, as what the bridge imports.

use std::collections::HashSet;

use wasmtime::anyhow;
use wit_component::{DecodedWasm, StringEncoding};
use wit_parser::{
    Function, InterfaceId, PackageId, Resolve, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem, WorldKey,
};

use super::super::Part;
use crate::Result;
use crate::tool::describe::Description;

/// Names of what two tools export may be the same, and a component imports a name once. So the
/// packages whose interfaces a tool exports are called after the tool: `test:echo` is `t0-test:echo`.
pub(super) struct World {
    pub resolve: Resolve,
    id: WorldId,
    /// What the tool exports by its own names, and as it is imported.
    exports: Vec<(String, WorldKey, WorldItem)>,
}

/// The name for the bridge of what tool number `number` exports as `export`.
pub(crate) fn import_name(number: usize, export: &str) -> String {
    format!("t{number}-{export}")
}

impl World {
    /// Reads the WIT of a tool, and turns it round.
    pub fn of(number: usize, part: &Part) -> Result<Self> {
        let bytes = crate::tool::without_docs(&part.bytes);
        let decoded = wit_component::decode(&bytes)
            .map_err(|error| part.bad("is not a valid component").source(error))?;
        let DecodedWasm::Component(mut resolve, id) = decoded else {
            return Err(part.bad("is a WIT package, not a component"));
        };
        let items = std::mem::take(&mut resolve.worlds[id].exports);
        let names: Vec<String> = items.keys().map(|key| resolve.name_world_key(key)).collect();
        let mut packages: Vec<PackageId> = resolve.worlds[id].package.into_iter().collect();
        for item in items.values() {
            if let WorldItem::Interface { id, .. } = item {
                packages.extend(resolve.interfaces[*id].package);
            }
        }
        packages.sort_unstable();
        packages.dedup();
        for package in packages {
            let old = resolve.packages[package].name.clone();
            let mut new = old.clone();
            new.namespace = import_name(number, &old.namespace);
            resolve.package_names.swap_remove(&old);
            resolve.package_names.insert(new.clone(), package);
            resolve.packages[package].name = new;
        }
        only_types(&mut resolve, id, items.values());
        let mut exports = Vec::new();
        for (name, (key, mut item)) in names.into_iter().zip(items) {
            let key = match key {
                WorldKey::Name(name) => WorldKey::Name(import_name(number, &name)),
                key => key,
            };
            if let WorldItem::Function(function) = &mut item {
                function.name = import_name(number, &function.name);
            }
            resolve.worlds[id].imports.insert(key.clone(), item.clone());
            exports.push((name, key, item));
        }
        Ok(World { resolve, id, exports })
    }

    /// The world for wit-component.
    pub fn metadata(&self) -> anyhow::Result<Vec<u8>> {
        wit_component::metadata::encode(&self.resolve, self.id, StringEncoding::UTF8, None)
    }

    /// A function by the name of its interface, empty if it has none, and its own.
    pub fn function(&self, interface: &str, name: &str) -> Option<(Option<&WorldKey>, &Function)> {
        let wanted = if interface.is_empty() { name } else { interface };
        let (_, key, item) = self.exports.iter().find(|(export, ..)| export == wanted)?;
        match item {
            WorldItem::Function(function) => Some((None, function)),
            WorldItem::Interface { id, .. } => {
                Some((Some(key), self.resolve.interfaces[*id].functions.get(name)?))
            }
            WorldItem::Type { .. } => None,
        }
    }

    /// A resource type, and the interface that the bridge has it of.
    pub fn resource(&self, described: &Description, index: usize) -> Option<(&WorldKey, TypeId)> {
        let ty = &described.types[index];
        let export = ty.interface.map(|interface| described.interfaces[interface].export.as_str());
        let imports = self.resolve.worlds[self.id].imports.iter();
        let mut found = imports.filter_map(|(key, item)| {
            let WorldItem::Interface { id, .. } = item else { return None };
            let is_own =
                |export: &str| self.exports.iter().any(|(name, own, _)| name == export && own == key);
            if export.is_some_and(|export| !is_own(export)) {
                return None;
            }
            Some((key, self.defined(*id, &ty.name)?))
        });
        // One that the tool only passes on is known by its name alone.
        found.next().filter(|_| found.next().is_none())
    }

    fn defined(&self, interface: InterfaceId, name: &str) -> Option<TypeId> {
        let ty = *self.resolve.interfaces[interface].types.get(name)?;
        let definition = &self.resolve.types[ty];
        let here = definition.owner == TypeOwner::Interface(interface);
        (here && matches!(definition.kind, TypeDefKind::Resource)).then_some(ty)
    }
}

/// Leaves of a world's imports those whose types its exports use.
fn only_types<'a>(resolve: &mut Resolve, world: WorldId, exports: impl Iterator<Item = &'a WorldItem>) {
    let mut open = Vec::new();
    for item in exports {
        match item {
            WorldItem::Interface { id, .. } => open.push(*id),
            // It may use any.
            WorldItem::Function(_) | WorldItem::Type { .. } => return,
        }
    }
    let mut used = HashSet::new();
    while let Some(interface) = open.pop() {
        if used.insert(interface) {
            open.extend(resolve.interface_direct_deps(interface));
        }
    }
    resolve.worlds[world].imports.retain(|_, item| match item {
        WorldItem::Interface { id, .. } => used.contains(id),
        WorldItem::Function(_) | WorldItem::Type { .. } => false,
    });
}
