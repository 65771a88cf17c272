//! What the operating system tells of this process and this machine, read from `/proc`, and what it is asked for this
//! process. Knows no server; where `/proc` is missing the figures are 0.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::{fs, io};

const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// Ticks of `/proc/self/stat` in a second, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time used, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// In the program.
    pub user: f64,
    /// In the kernel on its behalf.
    pub system: f64,
    /// In children that have ended.
    pub children_user: f64,
    /// In the kernel on behalf of children that have ended.
    pub children_system: f64,
}

/// Processor time of the whole process.
pub fn cpu_time() -> CpuTime {
    parse_stat(&read("/proc/self/stat"))
}

/// Processor time of the main thread.
pub fn cpu_time_main_thread() -> CpuTime {
    parse_stat(&read(&format!("/proc/self/task/{}/stat", std::process::id())))
}

/// Physical memory that the process holds, in bytes.
pub fn resident_bytes() -> u64 {
    kilobytes(&read("/proc/self/status"), "VmRSS:")
}

/// Physical memory of the machine, in bytes.
pub fn machine_memory_bytes() -> u64 {
    kilobytes(&read("/proc/meminfo"), "MemTotal:")
}

/// How willing the system is to kill the process when memory is short, -1000 to 1000.
pub fn oom_score() -> i32 {
    read(OOM_SCORE).trim().parse().unwrap_or(0)
}

/// Changes that.
///
/// # Errors
/// When the system refuses: less takes a privilege.
pub fn set_oom_score(score: i32) -> io::Result<()> {
    fs::write(OOM_SCORE, score.to_string())
}

/// Lets this thread, and those that it starts, run on some processors alone: `0,2-5,8-14:2`, where the last is every
/// second one. Nothing changes where the list is empty or makes no sense, as in Redis.
///
/// # Errors
/// When the machine has none of them.
pub fn pin(cpus: &str) -> io::Result<()> {
    let Some(numbers) = cpu_list(cpus).filter(|numbers| !numbers.is_empty()) else { return Ok(()) };
    let mut set = CpuSet::new();
    numbers.iter().for_each(|number| set.set(*number));
    Ok(sched_setaffinity(None, &set)?)
}

fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| word.trim().parse::<usize>().ok().filter(|number| *number < CpuSet::MAX_CPU);
        numbers.extend((number(first)?..=number(last)?).step_by(number(step).filter(|step| *step > 0)?));
    }
    Some(numbers)
}

/// System, release and processor: `Linux 6.1.0 x86_64`.
pub fn os() -> String {
    let kernel = |name: &str| read(&format!("/proc/sys/kernel/{name}")).trim().to_owned();
    format!("{} {} {}", kernel("ostype"), kernel("osrelease"), std::env::consts::ARCH)
}

/// Asks for memory in small pages only, from now on: one that is made room for amid a command by moving others costs
/// milliseconds.
///
/// # Errors
/// On a kernel that cannot.
pub fn disable_huge_pages() -> std::io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The times in a `stat` line. The second field, a name in parentheses, may hold blanks and parentheses itself.
fn parse_stat(line: &str) -> CpuTime {
    let Some((_, rest)) = line.rsplit_once(')') else { return CpuTime::default() };
    // `utime` is field 14 of the line, the first one behind the name is field 3.
    let mut times = rest.split_whitespace().skip(11).map(|word| word.parse::<f64>().unwrap_or(0.0) / TICKS_PER_SECOND);
    let mut next = || times.next().unwrap_or(0.0);
    CpuTime { user: next(), system: next(), children_user: next(), children_system: next() }
}

/// The line `label n kB`, in bytes.
fn kilobytes(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let line = "42 (a) b) (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 3 20 0 4 0 99 1 1";
        let time = parse_stat(line);
        assert_eq!((time.user, time.system, time.children_user, time.children_system), (2.5, 0.5, 0.07, 0.03));
        assert_eq!(parse_stat(""), CpuTime::default());
    }

    #[test]
    fn processors_are_listed_as_in_redis() {
        assert_eq!(cpu_list("0,2-5,8-14:2"), Some(vec![0, 2, 3, 4, 5, 8, 10, 12, 14]));
        assert_eq!((cpu_list(""), cpu_list(" 1 , 3-3 ")), (Some(vec![]), Some(vec![1, 3])));
        for wrong in ["x", "1-", "-1", "1-2:0", "5000", "1;2", "0-99999999999"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(kilobytes("VmPeak:\t 10 kB\nVmRSS:\t   2 kB\n", "VmRSS:"), 2048);
        assert_eq!(kilobytes("", "VmRSS:"), 0);
        assert!(resident_bytes() > 0 && machine_memory_bytes() > resident_bytes());
    }
}
