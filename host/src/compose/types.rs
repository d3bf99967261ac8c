//! The types of tools' functions with their layouts, as the bridge reads them.

use std::collections::HashMap;

use super::data::Data;
use crate::tool::describe::{Description, Shape, Type};

/// How a value lies in memory, and how many registers it takes, by the canonical ABI.
#[derive(Clone, Copy)]
struct Layout {
    size: usize,
    align: usize,
    flat: usize,
}

/// All types, each a position.
#[derive(Default)]
pub(super) struct Types(Vec<(Layout, Data)>);

impl Types {
    pub fn encode(&self, data: &mut Data) {
        data.number(self.0.len());
        for (layout, shape) in &self.0 {
            data.number(layout.size);
            data.number(layout.align);
            data.number(layout.flat);
            data.0.extend_from_slice(&shape.0);
        }
    }

    /// How many registers values of a type take.
    pub fn flat(&self, ty: usize) -> usize {
        self.0[ty].0.flat
    }

    fn add(&mut self, size: usize, align: usize, flat: usize, shape: impl FnOnce(&mut Data)) -> usize {
        let mut data = Data::default();
        shape(&mut data);
        self.0.push((Layout { size, align, flat }, data));
        self.0.len() - 1
    }

    fn scalar(&mut self, size: usize, kind: usize) -> usize {
        self.add(size, size, 1, |data| data.number(kind))
    }

    /// A record, or what is like one.
    fn fields(&mut self, types: impl IntoIterator<Item = usize>) -> usize {
        let mut layout = Layout { size: 0, align: 1, flat: 0 };
        let mut fields = Vec::new();
        for ty in types {
            let field = self.0[ty].0;
            let offset = layout.size.next_multiple_of(field.align);
            fields.push((offset, ty));
            layout = Layout {
                size: offset + field.size,
                align: layout.align.max(field.align),
                flat: layout.flat + field.flat,
            };
        }
        self.add(layout.size.next_multiple_of(layout.align), layout.align, layout.flat, |data| {
            data.number(5);
            data.number(fields.len());
            for (offset, ty) in fields {
                data.number(offset);
                data.number(ty);
            }
        })
    }

    fn cases(&mut self, narrow: bool, payloads: Vec<Option<usize>>) -> usize {
        let tag = bytes_of_case(payloads.len());
        let carried = || payloads.iter().flatten().map(|ty| self.0[*ty].0);
        let align = carried().map(|payload| payload.align).max().unwrap_or(1);
        let payload = tag.next_multiple_of(align);
        let largest = carried().map(|payload| payload.size).max().unwrap_or(0);
        let flat = 1 + carried().map(|payload| payload.flat).max().unwrap_or(0);
        let align = align.max(tag);
        self.add((payload + largest).next_multiple_of(align), align, flat, |data| {
            data.number(6);
            data.number(narrow.into());
            data.number(tag);
            data.number(payload);
            data.number(payloads.len());
            payloads.into_iter().for_each(|ty| data.optional(ty));
        })
    }

    fn flags(&mut self, count: usize) -> usize {
        let words = count.div_ceil(32);
        let (size, align) = match count {
            0..=8 => (1, 1),
            9..=16 => (2, 2),
            _ => (4 * words, 4),
        };
        self.add(size, align, words, |data| {
            data.number(7);
            data.number(count);
        })
    }
}

/// Bytes that a case takes in memory.
fn bytes_of_case(cases: usize) -> usize {
    match cases {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// Puts the types of one tool in.
pub(super) struct Reader<'a> {
    pub types: &'a mut Types,
    described: &'a Description,
    /// The number of each type, if it is a resource.
    resources: &'a [usize],
    named: HashMap<usize, usize>,
}

impl<'a> Reader<'a> {
    pub fn new(types: &'a mut Types, described: &'a Description, resources: &'a [usize]) -> Self {
        Reader { types, described, resources, named: HashMap::new() }
    }

    /// Parameters, as if they were the fields of a record.
    pub fn parameters<'t>(&mut self, types: impl IntoIterator<Item = &'t Type>) -> usize {
        let types: Vec<usize> = types.into_iter().map(|ty| self.ty(ty)).collect();
        self.types.fields(types)
    }

    pub fn ty(&mut self, ty: &Type) -> usize {
        match ty {
            Type::Bool => self.types.scalar(1, 1),
            Type::S8 | Type::U8 => self.types.scalar(1, 0),
            Type::S16 | Type::U16 => self.types.scalar(2, 0),
            Type::S32 | Type::U32 | Type::F32 => self.types.scalar(4, 0),
            Type::S64 | Type::U64 | Type::F64 => self.types.scalar(8, 0),
            Type::Char => self.types.scalar(4, 2),
            Type::String | Type::Json => self.types.add(8, 4, 2, |data| data.number(3)),
            Type::List(element) => {
                let element = self.ty(element);
                self.list(element)
            }
            Type::Map(key, value) => {
                let entry = [self.ty(key), self.ty(value)];
                let entry = self.types.fields(entry);
                self.list(entry)
            }
            Type::Array(element, length) => {
                let element = self.ty(element);
                self.types.fields(std::iter::repeat_n(element, *length as usize))
            }
            Type::Tuple(types) => self.parameters(types),
            Type::Option(inner) => {
                let some = self.ty(inner);
                self.types.cases(true, vec![None, Some(some)])
            }
            Type::Result(ok, error) => {
                let payloads = [ok, error].map(|ty| ty.as_ref().map(|ty| self.ty(ty)));
                self.types.cases(true, payloads.into())
            }
            Type::Named(index) => match self.named.get(index) {
                Some(known) => *known,
                None => {
                    let made = self.named(*index);
                    self.named.insert(*index, made);
                    made
                }
            },
            Type::Own(index) => self.handle(*index, 8),
            Type::Borrow(index) => self.handle(*index, 9),
        }
    }

    fn list(&mut self, element: usize) -> usize {
        self.types.add(8, 4, 2, |data| {
            data.number(4);
            data.number(element);
        })
    }

    fn handle(&mut self, resource: usize, kind: usize) -> usize {
        let resource = self.resources[resource];
        self.types.add(4, 4, 1, |data| {
            data.number(kind);
            data.number(resource);
        })
    }

    fn named(&mut self, index: usize) -> usize {
        match &self.described.types[index].shape {
            Shape::Record(fields) => self.parameters(fields.iter().map(|field| &field.ty)),
            Shape::Variant(cases) => {
                let payloads = cases.iter().map(|case| case.ty.as_ref().map(|ty| self.ty(ty))).collect();
                self.types.cases(false, payloads)
            }
            Shape::Enum(cases) => self.types.cases(false, vec![None; cases.len()]),
            Shape::Flags(flags) => self.types.flags(flags.len()),
            Shape::Resource => self.handle(index, 9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::describe::{Member, NamedType};

    #[test]
    fn layouts_are_those_of_the_canonical_abi() {
        fn member<T>(ty: T) -> Member<T> {
            Member { name: String::new(), docs: String::new(), ty }
        }
        let flags = |count| Shape::Flags((0..count).map(|_| member(())).collect());
        let shapes = [
            flags(8),
            flags(9),
            flags(17),
            flags(33),
            Shape::Variant((0..257).map(|_| member(None)).collect()),
            Shape::Variant(vec![
                member(Some(Type::F32)),
                member(Some(Type::U64)),
                member(Some(Type::String)),
            ]),
        ];
        let named = |shape| NamedType { name: String::new(), docs: String::new(), interface: None, shape };
        let described = Description { types: shapes.map(named).into(), ..Description::default() };
        let mut types = Types::default();
        let mut reader = Reader::new(&mut types, &described, &[]);
        let boxed = |ty: Type| Box::new(ty);
        // Size, alignment, registers.
        for (ty, expected) in [
            (Type::Named(0), (1, 1, 1)),
            (Type::Named(1), (2, 2, 1)),
            (Type::Named(2), (4, 4, 1)),
            (Type::Named(3), (8, 4, 2)),
            (Type::Named(4), (2, 2, 1)),
            (Type::Named(5), (16, 8, 3)),
            (Type::Option(boxed(Type::U64)), (16, 8, 2)),
            (Type::Option(boxed(Type::Bool)), (2, 1, 2)),
            (Type::Result(Some(boxed(Type::U8)), Some(boxed(Type::String))), (12, 4, 3)),
            (Type::Result(None, None), (1, 1, 1)),
            (Type::Tuple(vec![Type::U8, Type::U32, Type::U8]), (12, 4, 3)),
            (Type::Array(boxed(Type::U16), 3), (6, 2, 3)),
            (Type::Map(boxed(Type::String), boxed(Type::U8)), (8, 4, 2)),
        ] {
            let index = reader.ty(&ty);
            let Layout { size, align, flat } = reader.types.0[index].0;
            assert_eq!((size, align, flat), expected, "{ty:?}");
        }
    }
}
