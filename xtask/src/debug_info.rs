//! Removal of the DWARF from a linked BPF object. DWARF is four fifths of it, and no program reads it
//! after linking. BTF is made from DWARF and stays, with its line information: the kernel and aya read it,
//! and verifier logs show source lines by it.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::SHT_STRTAB;

/// `object` without sections of debug information, their relocations and their symbols.
///
/// # Errors
/// When it is no ELF file, or one that cannot be written again.
pub fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("cannot read the object")?;
    builder.sections.iter_mut().filter(|section| is_dwarf(section)).for_each(|section| {
        section.delete = true;
    });
    builder.delete_orphans();
    // LLVM keeps the names of sections among those of symbols, which the writer does not.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the object without debug information")?;
    Ok(stripped)
}

fn is_dwarf(section: &Section<'_>) -> bool {
    let name = section.name.as_slice();
    name.strip_prefix(b".rel").unwrap_or(name).starts_with(b".debug_")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object::elf::{EM_BPF, ET_REL, SHT_PROGBITS, SHT_SYMTAB};
    use object::{Endianness, File, Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;

    /// An object as LLVM writes it: names of sections and symbols in one table.
    fn linked() -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        builder.header.e_type = ET_REL;
        builder.header.e_machine = EM_BPF;
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
        let names = builder.sections.add();
        names.name = ".strtab".into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::String;
        let symbols = builder.sections.add();
        symbols.name = ".symtab".into();
        symbols.sh_type = SHT_SYMTAB;
        symbols.sh_addralign = 8;
        symbols.data = SectionData::Symbol;
        for name in [&b"xdp"[..], b".BTF", b".BTF.ext", b".debug_info", b".debug_str"] {
            let section = builder.sections.add();
            section.name = name.into();
            section.sh_type = SHT_PROGBITS;
            section.sh_addralign = 8;
            section.data = SectionData::Data([name, b" data".as_slice()].concat().into());
            let (id, named) = (section.id(), name.to_vec());
            let symbol = builder.symbols.add();
            symbol.name = named.into();
            symbol.section = Some(id);
        }
        let mut object = Vec::new();
        builder.write(&mut object).unwrap();
        object
    }

    fn contents(object: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let file = File::parse(object).unwrap();
        let section = |section: object::Section<'_, '_>| {
            (section.name().unwrap().to_owned(), section.data().unwrap().to_vec())
        };
        file.sections().map(section).collect()
    }

    #[test]
    fn dwarf_goes_and_all_else_stays_as_it_is() {
        let linked = linked();
        let stripped = strip(&linked).unwrap();
        let (before, after) = (contents(&linked), contents(&stripped));
        for name in ["xdp", ".BTF", ".BTF.ext"] {
            assert_eq!(after[name], before[name], "{name}");
        }
        assert!(before.contains_key(".debug_info"));
        assert!(!after.keys().any(|name| name.contains("debug")), "{:?}", after.keys());
        let file = File::parse(&*stripped).unwrap();
        let symbols: Vec<_> = file.symbols().map(|symbol| symbol.name().unwrap()).collect();
        assert!(symbols.contains(&"xdp"), "{symbols:?}");
        assert!(!symbols.contains(&".debug_info"), "{symbols:?}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(strip(b"#!/bin/sh").is_err());
        assert!(strip(&linked()[..40]).is_err());
    }
}
