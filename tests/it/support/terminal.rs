//! A terminal for a program: what is typed at it, and what it shows.

use tokio::time::timeout;

use super::gate::PATIENCE;

/// Runs a command on a terminal of its own, types each text when it shows the words before it, and gives what the terminal
/// showed and the exit status.
pub(crate) async fn on_a_terminal(command: tokio::process::Command, typed: &[(&str, &str)]) -> (String, i32) {
    // What Python has in its library takes unsafe code here.
    const SCRIPT: &str = "
import json, os, pty, sys
typed, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
shown = b''
while True:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    shown += more
    while typed and typed[0][0].encode() in shown:
        os.write(terminal, typed.pop(0)[1].encode())
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(shown.decode().replace('\\r\\n', '\\n'))
sys.exit(status)
";
    let command = command.as_std();
    let mut python = tokio::process::Command::new("python3");
    python
        .args(["-c", SCRIPT, &serde_json::json!(typed).to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).kill_on_drop(true);
    let output = timeout(PATIENCE, python.output()).await.expect("in time").expect("python3 is installed");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shown}");
    (shown, output.status.code().expect("no signal ends it"))
}

/// The rows of a terminal that has shown this, without the colours: carriage returns, erased lines and steps up are followed.
pub(crate) fn screen(shown: &str) -> Vec<String> {
    let (mut rows, mut row, mut column) = (vec![Vec::<char>::new()], 0, 0);
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' => (row, column) = (row + 1, 0),
            '\r' => column = 0,
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['), "only such sequences are used");
                let mut number = String::new();
                let end = rest.by_ref().find(|c| {
                    number.push(*c);
                    c.is_ascii_alphabetic()
                });
                let number = number.trim_end_matches(char::is_alphabetic).parse().unwrap_or(0);
                match end.expect("a sequence has an end") {
                    'K' => rows[row].truncate(column),
                    'A' => row -= number,
                    'm' => {}
                    other => panic!("an unknown sequence: {other}"),
                }
            }
            c => {
                let shown = &mut rows[row];
                shown.resize(shown.len().max(column + 1), ' ');
                shown[column] = c;
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), Vec::new());
    }
    rows.into_iter().map(|row| row.into_iter().collect()).collect()
}
