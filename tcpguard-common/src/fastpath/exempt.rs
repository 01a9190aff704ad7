//! Whose segments are not dropped for where they come from or how they look.

use super::Tables;
use crate::abi::Addr;

/// Whether `source` is protected or allow-listed at `now_ns` of boot time.
#[inline(always)]
pub(super) fn is_exempt<T: Tables>(tables: &T, source: &Addr, now_ns: u64) -> bool {
    u64::from(tables.exempt_until_s(source)) * 1_000_000_000 > now_ns
}
