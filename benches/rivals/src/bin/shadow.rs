//! What a caller pays for a shadow, good or bad, beside what others charge.
//!
//! `cargo run --release -p rivals --bin shadow [-- --requests N] [--check]`
//!
//! Every way to serve takes its turn, request by request, so that a change of the machine's speed
//! meets all of them. The model that serves takes two milliseconds; the shadow is as good, 100 times
//! slower, hung, panicking, or allocates 4 MiB a call. Ratios are to serving without a shadow.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pilotage::compare::comparator::Exact;
use pilotage::control::pool::WorkerPool;
use pilotage::model::{BoxModel, sync};
use pilotage::serve::request::Request;
use pilotage::serve::router::Router;
use pilotage::serve::shadow_lane::{LaneOptions, ShadowLane};
use request_shadow::{Backend, ResponseRecord, ShadowConfig, ShadowError, Shadower};
use scientisto::AsyncExperiment;

const PRIMARY: Duration = Duration::from_millis(2);

/// How a shadow behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    Slow,
    Hung,
    Panicking,
    Allocating,
}

const KINDS: [Kind; 5] = [Kind::Good, Kind::Slow, Kind::Hung, Kind::Panicking, Kind::Allocating];

impl Kind {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's shadow dawdles")]
    fn run(self, n: u64) -> u64 {
        match self {
            Self::Good => std::thread::sleep(PRIMARY),
            Self::Slow => std::thread::sleep(PRIMARY * 100),
            Self::Hung => loop {
                std::thread::park();
            },
            Self::Panicking => panic!("as the benchmark wants it"),
            Self::Allocating => {
                let block = vec![n as u8; 4 << 20];
                return u64::from(std::hint::black_box(block)[n as usize % (4 << 20)]);
            }
        }
        n
    }

    async fn run_async(self, n: u64) -> u64 {
        match self {
            Self::Good => tokio::time::sleep(PRIMARY).await,
            Self::Slow => tokio::time::sleep(PRIMARY * 100).await,
            Self::Hung => std::future::pending().await,
            Self::Panicking | Self::Allocating => return self.run(n),
        }
        n
    }
}

type Served = BoxModel<u64, u64, Infallible>;

/// Ours: a router with a lane.
struct Ours {
    router: Router<Served>,
    lane: ShadowLane<Served>,
}

fn router() -> Router<Served> {
    let primary = |n: &u64| {
        #[expect(clippy::disallowed_methods, reason = "this is the model's work")]
        std::thread::sleep(PRIMARY);
        Ok(*n)
    };
    Router::builder("bench").stable("v1", BoxModel::new(sync(primary))).build().expect("a name")
}

fn ours(kind: Kind) -> Ours {
    let model = sync(move |n: &u64| Ok::<_, Infallible>(kind.run(*n))).shadowable();
    let options =
        LaneOptions { in_flight: 64, deadline: Duration::from_secs(1), ..LaneOptions::default() };
    let pool = WorkerPool::new("shadow", 2, 64).expect("threads");
    let lane = ShadowLane::builder(Arc::new(BoxModel::new(model)), pool)
        .compare(Exact)
        .options(options)
        .open()
        .expect("the model may be shadowed");
    Ours { router: router(), lane }
}

/// A rival's model.
struct Rival(Option<Kind>);

#[async_trait]
impl Backend for Rival {
    async fn call(&self, input: &[u8]) -> Result<ResponseRecord, ShadowError> {
        let n = input.len() as u64;
        match self.0 {
            None => tokio::time::sleep(PRIMARY).await,
            Some(kind) => {
                let _ = kind.run_async(n).await;
            }
        }
        Ok(ResponseRecord::ok(n.to_le_bytes().to_vec()))
    }
}

fn main() -> ExitCode {
    let (mut requests, mut check) = (3_000_u64, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => check = true,
            "--requests" => match arguments.next().and_then(|given| given.parse().ok()) {
                Some(given) if given >= 100 => requests = given,
                _ => return usage("--requests needs a number from 100"),
            },
            other => return usage(&format!("unknown argument {other}")),
        }
    }
    std::panic::set_hook(Box::new(|_| {})); // a panic is what is measured, not news
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let plain = router();
    let lanes = KINDS.map(ours);
    let before = resident();

    let mut times = vec![Vec::<Duration>::new(); KINDS.len() + 1];
    let mut most = before;
    for n in 0..requests {
        for turn in 0..times.len() as u64 {
            let at = ((n + turn) % times.len() as u64) as usize;
            let (request, input) = (Request::of(n), Arc::new(n));
            let began = now();
            let answered = runtime.block_on(async {
                match at.checked_sub(1) {
                    None => plain.predict(request, &input).await.is_ok(),
                    Some(at) => {
                        let Ours { router, lane } = &lanes[at];
                        lane.predict(router, request, &input, None).await.is_ok()
                    }
                }
            });
            times[at].push(now().duration_since(began));
            assert!(answered, "the caller hears the model that serves");
        }
        most = most.max(resident());
    }
    for list in &mut times {
        list.sort_unstable();
    }
    let at = |list: &[Duration], q: f64| list[(list.len() as f64 * q) as usize].as_secs_f64();
    let base = (at(&times[0], 0.5), at(&times[0], 0.99));
    println!("{:<28} {:>9} {:>9} {:>8} {:>8}", "a request", "p50 ms", "p99 ms", "p50 ×", "p99 ×");
    let show = |name: &str, p50: f64, p99: f64| {
        let (half, top) = (p50 / base.0, p99 / base.1);
        println!("{name:<28} {:>9.3} {:>9.3} {half:>8.3} {top:>8.3}", p50 * 1e3, p99 * 1e3);
    };
    show("no shadow", base.0, base.1);
    let mut held = true;
    for (kind, list) in KINDS.iter().zip(&times[1..]) {
        let (p50, p99) = (at(list, 0.5), at(list, 0.99));
        show(&format!("pilotage, {kind:?} shadow").to_lowercase(), p50, p99);
        held &= p99 / base.1 <= 1.01;
    }
    for kind in KINDS {
        for (name, serve) in [("scientisto", 0), ("request-shadow", 1)] {
            // So few, since each waits for its shadow.
            let count = if matches!(kind, Kind::Slow | Kind::Hung) { 5 } else { 200 };
            let (mut list, mut lost) = (Vec::new(), 0);
            for n in 0..count {
                let began = now();
                let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    runtime.block_on(rival(serve, kind, n))
                }));
                list.push(now().duration_since(began));
                lost += u32::from(!matches!(answered, Ok(true)));
            }
            list.sort_unstable();
            let p99 = if count < 100 { at(&list, 0.9) } else { at(&list, 0.99) };
            show(&format!("{name}, {kind:?} shadow").to_lowercase(), at(&list, 0.5), p99);
            if lost > 0 {
                println!("{:>28} {lost} of {count} callers got no answer", "");
            }
        }
    }
    println!();
    let mut exact = true;
    for (kind, Ours { lane, .. }) in KINDS.iter().zip(&lanes) {
        let (counts, under_way) = (lane.counts(), lane.in_flight());
        let all = counts.run + counts.shed + counts.skipped;
        let agrees = all <= requests && all + under_way >= requests;
        exact &= agrees && counts.sampled == requests;
        println!(
            "{:<12} {requests} sampled: {} run ({} panicked, {} timed out), {} shed, {under_way} under \
             way, {} overdue{}",
            format!("{kind:?}").to_lowercase(),
            counts.run,
            counts.candidate.ended[4],
            counts.candidate.ended[2],
            counts.shed,
            lane.overdue(),
            if agrees { "" } else { "  MISCOUNTED" },
        );
    }
    let grown = most.saturating_sub(before) as f64 / f64::from(1 << 20);
    println!("memory grew by {grown:.1} MiB at most, of which the shadows themselves took up to 8");
    println!("p99 within 1 % of no shadow: {}", if held { "held" } else { "MISSED" });
    if check && !(held && exact && grown < 16.0) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Whether the caller of a rival got an answer. Two seconds are all that anybody waits here.
async fn rival(which: u8, kind: Kind, n: u64) -> bool {
    let waited = async {
        if which == 0 {
            let control = async {
                tokio::time::sleep(PRIMARY).await;
                n
            };
            AsyncExperiment::new("bench").control(control).experiment(kind.run_async(n)).run().await
                == n
        } else {
            let config = ShadowConfig::full_sample().shadow_timeout(Duration::from_secs(1));
            let shadower =
                Shadower::new(Arc::new(Rival(None)), Arc::new(Rival(Some(kind))), config);
            shadower.call(&n.to_le_bytes()).await.is_ok()
        }
    };
    tokio::time::timeout(Duration::from_secs(2), waited).await.unwrap_or(false)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Bytes of memory that are resident; 0 where the system does not say.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("{problem}\nusage: shadow [--requests N] [--check]");
    ExitCode::from(2)
}
