//! The child: gives up what it does not need, then answers calls until its input ends.

use std::io::{self, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Runtime, Value};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;

use super::Fault;
use super::frame::{self, Reply, Request};

/// The hidden command under which the program is a child.
pub const COMMAND: &str = "sandbox-child";

/// CPU time of one call.
const CPU: Duration = Duration::from_millis(50);
/// Memory of the engine in one call.
const MEMORY: usize = 16 << 20;
/// Stack of the engine: deep recursion is an exception long before it is a fault.
const STACK: usize = 256 << 10;
/// Private memory of the process: several times what the engine may have.
const PROCESS_MEMORY: u64 = 256 << 20;
/// The name of the script in the engine's traces.
const FILE: &str = "script";

/// Answers calls on standard input until it ends.
pub fn run() -> ExitCode {
    match confine().and_then(|()| serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes away from this process what scripts must not have, should one break out of the engine.
fn confine() -> io::Result<()> {
    let limit = |resource, most| {
        let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    // The three streams there are, and no other.
    limit(Resource::Nofile, 3)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Data, PROCESS_MEMORY)?;
    // The server's own work goes first.
    nice(10)?;
    Ok(())
}

fn serve() -> io::Result<()> {
    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    while let Some(body) = frame::read(&mut input)? {
        let request: Request = serde_json::from_slice(&body)?;
        allow_cpu_time()?;
        let reply = match call(&request, &mut output) {
            Ok(text) => RawValue::from_string(text).map(Reply::Value).unwrap_or_else(|_| {
                Reply::Fault(Fault { message: "the result is not JSON".to_owned(), line: None, column: None })
            }),
            Err(fault) => Reply::Fault(fault),
        };
        frame::write(&mut output, &reply)?;
    }
    Ok(())
}

/// Lets the operating system end this process when a call takes seconds of CPU time, whatever the server does.
fn allow_cpu_time() -> io::Result<()> {
    let limit = Rlimit { current: Some(used().as_secs() + 2), maximum: getrlimit(Resource::Cpu).maximum };
    Ok(setrlimit(Resource::Cpu, limit)?)
}

/// CPU time of this process so far.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Calls the function in an engine of its own. The value is JSON text.
fn call(request: &Request, output: &mut impl Write) -> Result<String, Fault> {
    let engine = || -> rquickjs::Result<(Runtime, Context)> {
        let runtime = Runtime::new()?;
        let context = Context::full(&runtime)?;
        Ok((runtime, context))
    };
    let (runtime, context) =
        engine().map_err(|error| Fault { message: error.to_string(), line: None, column: None })?;
    runtime.set_memory_limit(MEMORY);
    runtime.set_max_stack_size(STACK);
    let until = used() + CPU;
    runtime.set_interrupt_handler(Some(Box::new(move || used() > until)));
    context.with(|ctx| evaluate(&ctx, request, output))
}

fn evaluate<'js>(ctx: &Ctx<'js>, request: &Request, output: &mut impl Write) -> Result<String, Fault> {
    let mut at = (Some(1), Some(1));
    let said = frame::write(output, &Reply::Calling { line: at.0, column: at.1 });
    said.map_err(|error| Fault { message: error.to_string(), line: None, column: None })?;
    let name = &request.function;
    let missing =
        || Fault { message: format!("the script defines no function `{name}`"), line: Some(1), column: Some(1) };
    // The stack frame of the probe has another file name, so that its lines are not taken for the script's.
    script(ctx, &request.source, FILE).catch(ctx).map_err(|error| told(ctx, error))?;
    let probe = format!("typeof {name} === 'function' ? {name} : undefined");
    let found = script(ctx, &probe, "probe").catch(ctx).map_err(|error| told(ctx, error))?;
    let function = found.into_function().ok_or_else(missing)?;
    at = place_of(&function).unwrap_or(at);
    let _ = frame::write(output, &Reply::Calling { line: at.0, column: at.1 });
    let result = apply(ctx, &function, &request.arguments).catch(ctx).map_err(|error| told(ctx, error))?;
    result.ok_or_else(|| Fault {
        message: format!("`{name}` must return a value that is JSON"),
        line: at.0,
        column: at.1,
    })
}

fn script<'js>(ctx: &Ctx<'js>, source: &str, file: &str) -> rquickjs::Result<Value<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(file.to_owned());
    ctx.eval_with_options(source, options)
}

/// Calls with arguments given as JSON. `None`: what came back has no form in JSON.
fn apply<'js>(ctx: &Ctx<'js>, function: &Function<'js>, arguments: &[String]) -> rquickjs::Result<Option<String>> {
    let mut args = Args::new(ctx.clone(), arguments.len());
    for argument in arguments {
        args.push_arg(ctx.json_parse(argument.as_str())?)?;
    }
    let value: Value<'js> = function.call_arg(args)?;
    if value.is_promise() {
        return Ok(None);
    }
    ctx.json_stringify(value)?.map(|text| text.to_string()).transpose()
}

fn place_of(function: &Function<'_>) -> Option<(Option<u32>, Option<u32>)> {
    let line: u32 = function.get("lineNumber").ok()?;
    let column: u32 = function.get("columnNumber").ok()?;
    Some((Some(line), Some(column)))
}

/// Says what was thrown, and where.
fn told<'js>(ctx: &Ctx<'js>, error: CaughtError<'js>) -> Fault {
    // Reading the error may run code of the script, which may throw again: nothing of that counts.
    let fault = match error {
        CaughtError::Exception(exception) => {
            let kind: Option<String> = exception.as_object().get("name").ok();
            let message = exception.message().unwrap_or_default();
            let (line, column) = exception.stack().as_deref().and_then(place_in).unzip();
            let message = match kind {
                Some(kind) if message.is_empty() => kind,
                Some(kind) => format!("{kind}: {message}"),
                None => message,
            };
            Fault { message, line, column }
        }
        CaughtError::Value(value) => {
            let text = ctx.json_stringify(value).ok().flatten().and_then(|text| text.to_string().ok());
            let message =
                text.map_or_else(|| "the script used too much memory".to_owned(), |text| format!("thrown: {text}"));
            Fault { message, line: None, column: None }
        }
        CaughtError::Error(error) => Fault { message: error.to_string(), line: None, column: None },
    };
    let _ = ctx.catch();
    Fault { message: fault.message.replace('\0', "\u{fffd}").chars().take(500).collect(), ..fault }
}

/// The first place of the script in a trace such as `at map (script:3:5)`.
fn place_in(trace: &str) -> Option<(u32, u32)> {
    let marker = format!("{FILE}:");
    trace.match_indices(&marker).find_map(|(start, _)| {
        let mut numbers = trace[start + marker.len()..].split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_traces() {
        assert_eq!(place_in("    at map (script:3:5)\n    at <eval> (probe:1:1)\n"), Some((3, 5)));
        assert_eq!(place_in("    at script:12:7\n"), Some((12, 7)));
        assert_eq!(place_in("    at native\n"), None);
    }
}
