//! The system call filter. It denies kernel interfaces that no namespace isolates. It is added to the engine's own
//! filter and must never loosen it: every result is either unchanged or an error.

use std::io;

/// One instruction of classic BPF (`linux/filter.h`).
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

unsafe extern "C" {
    fn prctl(option: i32, a: usize, b: usize, c: usize, d: usize) -> i32;
}

const PR_SET_DUMPABLE: i32 = 4;
const PR_SET_SECCOMP: i32 = 22;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const SECCOMP_MODE_FILTER: usize = 2;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
const CLONE_NEWUSER: u32 = 0x1000_0000;

/// Numbers of the system calls that the filter checks (`asm/unistd.h`).
#[cfg(target_arch = "x86_64")]
mod nr {
    pub const ARCH: u32 = 0xc000_003e;
    pub const SOCKET: u32 = 41;
    pub const SOCKETPAIR: u32 = 53;
    pub const CLONE: u32 = 56;
    pub const UNSHARE: u32 = 272;
    /// `add_key`, `request_key` and `keyctl`, because no namespace isolates the kernel's keyrings; `process_vm_readv`,
    /// `process_vm_writev` and `kcmp`, because newer engines allow them.
    pub const DENIED: [u32; 6] = [248, 249, 250, 310, 311, 312];
}
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const ARCH: u32 = 0xc000_00b7;
    pub const SOCKET: u32 = 198;
    pub const SOCKETPAIR: u32 = 199;
    pub const CLONE: u32 = 220;
    pub const UNSHARE: u32 = 97;
    /// The same calls as on `x86_64`.
    pub const DENIED: [u32; 6] = [217, 218, 219, 270, 271, 272];
}
// These numbers are the same on every architecture.
const IO_URING_SETUP: u32 = 425;
const IO_URING_REGISTER: u32 = 427;
const CLONE3: u32 = 435;
/// The bit of x32 system calls on x86, which would bypass a filter by number.
const X32: u32 = 0x4000_0000;

/// The allowed socket families: UNIX, INET, INET6 and NETLINK. VSOCK is denied, because no network namespace isolates
/// it.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

fn build_program() -> Vec<Instruction> {
    let load = |offset| Instruction { code: 0x20, jump_true: 0, jump_false: 0, k: offset };
    let skip_unless_equal = |k, n| Instruction { code: 0x15, jump_true: 0, jump_false: n, k };
    let skip_if_equal = |k, n| Instruction { code: 0x15, jump_true: n, jump_false: 0, k };
    let skip_if_below = |k, n| Instruction { code: 0x35, jump_true: 0, jump_false: n, k };
    let skip_if_above = |k, n| Instruction { code: 0x25, jump_true: n, jump_false: 0, k };
    let skip_unless_bits = |k, n| Instruction { code: 0x45, jump_true: 0, jump_false: n, k };
    let answer = |k| Instruction { code: 0x06, jump_true: 0, jump_false: 0, k };
    let (number, arch, argument) = (0, 4, 16);

    let mut program = vec![load(arch), skip_if_equal(nr::ARCH, 1), answer(ERRNO | ENOSYS), load(number)];
    program.extend([skip_if_below(X32, 1), answer(ERRNO | ENOSYS)]);
    program.extend([skip_if_below(IO_URING_SETUP, 2), skip_if_above(IO_URING_REGISTER, 1), answer(ERRNO | ENOSYS)]);
    program.extend([skip_unless_equal(CLONE3, 1), answer(ERRNO | ENOSYS)]);
    for call in nr::DENIED {
        program.extend([skip_unless_equal(call, 1), answer(ERRNO | EPERM)]);
    }
    for call in [nr::CLONE, nr::UNSHARE] {
        program.extend([
            skip_unless_equal(call, 4),
            load(argument),
            skip_unless_bits(CLONE_NEWUSER, 1),
            answer(ERRNO | EPERM),
            answer(ALLOW),
        ]);
    }
    for call in [nr::SOCKET, nr::SOCKETPAIR] {
        program.extend([skip_unless_equal(call, 6), load(argument)]);
        for (at, family) in FAMILIES.into_iter().enumerate() {
            program.push(skip_if_equal(family, u8::try_from(FAMILIES.len() - at).unwrap_or(0)));
        }
        program.push(answer(ERRNO | EAFNOSUPPORT));
        // An allowed family and any other system call continue after the last answer.
        let last = program.len() - FAMILIES.len() - 3;
        program[last].jump_false = u8::try_from(FAMILIES.len() + 2).unwrap_or(0);
    }
    program.push(answer(ALLOW));
    program
}

/// Installs the filter for this process and for every process that it starts.
pub fn install_filter() -> io::Result<()> {
    let program = build_program();
    let program =
        Program { length: u16::try_from(program.len()).map_err(io::Error::other)?, instructions: program.as_ptr() };
    // SAFETY: both calls only read their arguments. `program` and the instructions that it points to outlive them.
    let done = unsafe {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const program as usize, 0, 0) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Prevents other processes of this user from tracing this process and from writing to its memory.
///
/// See `PR_SET_DUMPABLE` in prctl(2) and "Ptrace access mode checking" in ptrace(2). A program that is executed later
/// can be traced again.
pub fn forbid_tracing() -> io::Result<()> {
    // SAFETY: the call takes only numbers.
    if unsafe { prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter in a model of the kernel's interpreter that supports only the instructions used here.
    fn run_filter(number: u32, arch: u32, argument: u32) -> u32 {
        let program = build_program();
        let (mut index, mut accumulator) = (0_usize, 0_u32);
        loop {
            let instruction = &program[index];
            let jump =
                |condition: bool| usize::from(if condition { instruction.jump_true } else { instruction.jump_false });
            index += 1 + match instruction.code {
                0x20 => {
                    accumulator = match instruction.k {
                        0 => number,
                        4 => arch,
                        16 => argument,
                        other => panic!("unsupported load offset {other}"),
                    };
                    0
                }
                0x15 => jump(accumulator == instruction.k),
                0x35 => jump(accumulator >= instruction.k),
                0x25 => jump(accumulator > instruction.k),
                0x45 => jump(accumulator & instruction.k != 0),
                0x06 => return instruction.k,
                other => panic!("unsupported instruction {other:#x}"),
            };
        }
    }

    #[test]
    fn seccomp_filter_denies_exactly_these_calls() {
        let call = |number, argument| run_filter(number, nr::ARCH, argument);
        for number in [nr::SOCKET, nr::SOCKETPAIR] {
            for family in 0..64 {
                let expected = if FAMILIES.contains(&family) { ALLOW } else { ERRNO | EAFNOSUPPORT };
                assert_eq!(call(number, family), expected, "family {family}");
            }
        }
        for number in IO_URING_SETUP..=IO_URING_REGISTER {
            assert_eq!(call(number, 0), ERRNO | ENOSYS);
        }
        assert_eq!(call(CLONE3, 0), ERRNO | ENOSYS);
        for number in nr::DENIED {
            assert_eq!(call(number, 0), ERRNO | EPERM, "call {number}");
        }
        for number in [nr::CLONE, nr::UNSHARE] {
            assert_eq!(call(number, CLONE_NEWUSER | 17), ERRNO | EPERM);
            assert_eq!(call(number, 17), ALLOW);
        }
        assert_eq!(call(X32 | nr::SOCKET, 2), ERRNO | ENOSYS);
        assert_eq!(run_filter(nr::SOCKET, 0x4000_0003, 2), ERRNO | ENOSYS);
        for number in 0..500 {
            let known = [nr::SOCKET, nr::SOCKETPAIR, CLONE3, 425, 426, 427];
            if !known.contains(&number) && !nr::DENIED.contains(&number) {
                assert_eq!(call(number, 0), ALLOW, "call {number}");
            }
        }
    }
}
