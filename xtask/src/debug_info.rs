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
