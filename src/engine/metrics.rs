//! Numbers for those who watch the server, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::execution::memory_pool::MemoryLimit;

use crate::engine::Engine;
use crate::engine::activity::Counts;

impl Engine {
    /// Whether the threads that queries run on answer.
    pub async fn is_healthy(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        let Ok(work) = self.work() else { return false };
        matches!(tokio::time::timeout(PATIENCE, work.spawn(async {})).await, Ok(Ok(())))
    }

    /// One more login was refused.
    pub fn note_refused_login(&self) {
        Counts::one_more(&self.common.activity.counts.refused_logins);
    }

    /// All numbers as they are now.
    pub fn metrics(&self) -> String {
        let mut page = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(page, "# HELP cohort_{name} {help}\n# TYPE cohort_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(page, "cohort_{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        let counts = &self.common.activity.counts;
        let count = |count: &std::sync::atomic::AtomicU64| one(count.load(Ordering::Relaxed));
        let uptime = (chrono::Utc::now().timestamp_micros() - self.common.started).max(0).cast_unsigned() / 1_000_000;
        let states = self.common.activity.states().into_iter();
        let sessions: Vec<_> = states.map(|(state, n)| (format!("{{state=\"{state}\"}}"), n)).collect();
        let pool = &self.base.runtime_env().memory_pool;
        let limit = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            _ => self.memory_limit,
        };
        metric("uptime_seconds", "gauge", "Seconds since the start.", &one(uptime));
        metric("sessions", "gauge", "Clients that are connected, by what they do.", &sessions);
        metric("sessions_total", "counter", "Clients that were let in.", &count(&counts.sessions));
        metric("refused_logins_total", "counter", "Clients that were not.", &count(&counts.refused_logins));
        let statements = &count(&counts.statements);
        metric("statements_total", "counter", "Statements that were run.", statements);
        metric("failed_statements_total", "counter", "Those that failed.", &count(&counts.failed_statements));
        let waiting = one(self.shares.waiting() as u64);
        metric(
            "waiting_statements",
            "gauge",
            "Statements that wait because their roles run as many as they may.",
            &waiting,
        );
        metric("commits_total", "counter", "Changes of tables, models and rights.", &one(self.sight.store.commits()));
        metric(
            "memory_reserved_bytes",
            "gauge",
            "Memory that queries and trainings hold.",
            &one(pool.reserved() as u64),
        );
        metric("memory_limit_bytes", "gauge", "Memory that they may hold.", &one(limit as u64));
        if let Some(bytes) = resident_bytes() {
            metric("process_resident_bytes", "gauge", "Memory of the process.", &one(bytes));
        }
        page
    }
}

/// `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
