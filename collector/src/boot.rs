//! The id of a boot: greater than those of the site's boots before, whatever the clock says, so that whoever receives them
//! in another order knows which was first.

use crosswatch_shared::observation::Name;
use uuid::Uuid;

/// The time in a `UUIDv7` is in its first 48 bits, in milliseconds (RFC 9562, section 5.7).
const BELOW_TIME: u32 = 80;

/// A new boot's id, after that of the newest one before, if there was one.
pub(crate) fn begin(former: Option<&str>) -> Name {
    Name::from(after(former, Uuid::now_v7()).to_string())
}

/// `now`, or where the clock has gone back since, the same in the millisecond after the former one.
fn after(former: Option<&str>, now: Uuid) -> Uuid {
    let former = former.and_then(|former| Uuid::try_parse(former).ok());
    match former.filter(|former| former.get_version_num() == 7 && *former >= now) {
        Some(former) => {
            let time = (former.as_u128() >> BELOW_TIME) + 1;
            Uuid::from_u128((time << BELOW_TIME) | (now.as_u128() & ((1 << BELOW_TIME) - 1)))
        }
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_only_grow_also_when_the_clock_goes_back() {
        let now = Uuid::now_v7();
        assert_eq!(after(None, now), now);
        assert_eq!(after(Some("0193a5f0-9a3c-7d11-8000-00000000ffff"), now), now);
        assert_eq!(after(Some("boot-1"), now), now, "of another kind");
        let mut former = "f193a5f0-9a3c-7fff-bfff-ffffffffffff".to_owned();
        for _ in 0..3 {
            let next = after(Some(&former), now);
            assert_eq!(next.get_version_num(), 7);
            assert!(next.to_string() > former, "{next} after {former}");
            former = next.to_string();
        }
    }
}
