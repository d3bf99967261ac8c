//! Whether the packages that a component names need each other in a circle: the decoder of WIT
//! recurses from each package to those that it needs, and would do so without end.

use std::collections::{HashMap, HashSet};

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::{ComponentExternalKind, Parser, Payload, ValidPayload, Validator, WasmFeatures};

/// How many packages a component may name; the decoder recurses as deep.
const MAX_PACKAGES: usize = 256;

/// Refuses a component that must not be decoded; says whether it is one, and no WIT package.
///
/// # Errors
///
/// When packages need each other in a circle, need what is in none, or are too many, or the component is
/// invalid.
pub(super) fn check(component: &[u8]) -> Result<bool, String> {
    let invalid = |error| format!("is not a valid component: {error}");
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut depth = 1;
    let mut named = Vec::<(&str, ComponentEntityType)>::new();
    let mut types = None;
    let mut only_types = true;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(invalid)?;
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Parser(_) => depth += 1,
            ValidPayload::End(end) => {
                depth -= 1;
                types = Some(end);
            }
            _ => {}
        }
        let (1, Some(now)) = (depth, validator.types(0)) else { continue };
        match payload {
            Payload::ComponentImportSection(section) => {
                only_types = false;
                for import in section {
                    let name = import.map_err(invalid)?.name.name;
                    named.extend(now.component_item_for_import(name).map(|item| (name, item.ty)));
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    only_types &= matches!(export.kind, ComponentExternalKind::Type);
                    let name = export.name.name;
                    named.extend(now.component_item_for_export(name).map(|item| (name, item.ty)));
                }
            }
            _ => {}
        }
    }
    if only_types && !named.is_empty() {
        return Ok(false);
    }
    let Some(types) = types else { return Ok(true) };
    let types = types.as_ref();

    // Which package a type belongs to, and which packages one needs.
    let mut numbers = HashMap::<(&str, &str), usize>::new();
    let mut owners = HashMap::<ComponentAnyTypeId, usize>::new();
    let mut needs = Vec::<HashSet<usize>>::new();
    for (name, ty) in named {
        let ComponentEntityType::Instance(instance) = ty else { continue };
        let number = *numbers.entry(package(name)).or_insert(needs.len());
        if number == needs.len() {
            needs.push(HashSet::new());
        }
        for item in types[instance].exports.values() {
            let ComponentEntityType::Type { referenced, created } = item.ty else { continue };
            let mut next = Some(referenced);
            while let Some(ty) = next {
                if let Some(owner) = owners.get(&ty) {
                    needs[number].insert(*owner);
                    break;
                }
                next = peel(types, ty);
            }
            owners.entry(created).or_insert(number);
        }
        needs[number].remove(&number);
    }
    if needs.len() > MAX_PACKAGES {
        return Err(format!("names more than {MAX_PACKAGES} packages"));
    }
    if let Some(plain) = numbers.get(&("", ""))
        && needs.iter().any(|needs| needs.contains(plain))
    {
        return Err("has an interface in a package that needs one in no package".into());
    }
    // Takes those away that need none that is left, until nothing changes.
    let mut left: HashSet<usize> = (0..needs.len()).collect();
    while let Some(free) = left.iter().copied().find(|number| needs[*number].is_disjoint(&left)) {
        left.remove(&free);
    }
    match numbers.iter().find(|(_, number)| left.contains(number)) {
        Some(((name, _), _)) => {
            Err(format!("names packages that need each other in a circle; `{name}` is one of them"))
        }
        None => Ok(true),
    }
}

/// The name and the version of the package that has the interface `name`; empty for names without one.
fn package(name: &str) -> (&str, &str) {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    (interface.split_once('/').map_or("", |(package, _)| package), version)
}

fn peel(types: wasmparser::types::TypesRef<'_>, ty: ComponentAnyTypeId) -> Option<ComponentAnyTypeId> {
    Some(match ty {
        ComponentAnyTypeId::Resource(id) => ComponentAnyTypeId::Resource(types.peel_alias(id)?),
        ComponentAnyTypeId::Defined(id) => ComponentAnyTypeId::Defined(types.peel_alias(id)?),
        ComponentAnyTypeId::Func(id) => ComponentAnyTypeId::Func(types.peel_alias(id)?),
        ComponentAnyTypeId::Instance(id) => ComponentAnyTypeId::Instance(types.peel_alias(id)?),
        ComponentAnyTypeId::Component(id) => ComponentAnyTypeId::Component(types.peel_alias(id)?),
    })
}

#[cfg(test)]
mod tests {
    use crate::tool::describe::Description;

    fn read(imports: &str) -> Result<Description, String> {
        let component = wat::parse_str(format!(
            "(component {imports}
               (core module $m (func (export \"f\")))
               (core instance $i (instantiate $m))
               (func (export \"f\") (canon lift (core func $i \"f\"))))"
        ));
        Description::read(&component.unwrap(), "test").map_err(|error| error.to_string())
    }

    /// An interface that has type `a`, which is that of the interface before.
    fn next(name: &str, before: &str) -> String {
        let alias = before.replace([':', '/', '@', '.'], "-");
        format!(
            "(alias export ${alias} \"a\" (type ${alias}-a))
             (import \"{name}\" (instance ${} (alias outer 1 ${alias}-a (type $before)) (export \"a\" (type (eq $before)))))",
            name.replace([':', '/', '@', '.'], "-")
        )
    }

    #[test]
    fn packages_that_need_each_other_are_refused() {
        for ty in ["(type (sub resource))", "(type (eq $t))"] {
            let first = format!(
                "(import \"p:a/one\" (instance $p-a-one (type $t (record (field \"x\" u8))) (export \"a\" {ty})))"
            );
            read(&format!("{first} {} {}", next("p:b/two", "p:a/one"), next("p:c/three", "p:b/two")))
                .unwrap();
            // In the same package, or another version of it, as it is with WASI.
            read(&format!("{first} {}", next("p:a/two", "p:a/one"))).unwrap();
            read(&format!("{first} {}", next("p:a/one@1.0.0", "p:a/one"))).unwrap();
            let error =
                read(&format!("{first} {} {}", next("p:b/two", "p:a/one"), next("p:a/three", "p:b/two")));
            assert!(error.as_ref().unwrap_err().contains("need each other in a circle"), "{error:?}");
        }
        let many: String =
            (0..300).map(|number| format!("(import \"p:a{number}/one\" (instance))")).collect();
        assert!(read(&many).unwrap_err().contains("more than 256 packages"));
    }

    #[test]
    fn packages_that_need_what_is_in_none_are_refused() {
        let first = "(import \"plain\" (instance $plain (export \"a\" (type (sub resource)))))";
        assert!(
            read(&format!("{first} {}", next("p:b/two", "plain"))).unwrap_err().contains("in no package")
        );
        read(&format!("{first} {}", next("other", "plain"))).unwrap();
    }
}
