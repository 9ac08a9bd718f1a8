<?php
// PHP's mysqli on mysqlnd, which sets the bit for compression whatever the server offers: both protocols, several results, LOCAL
// INFILE, big packets, errors, change of user, KILL.
declare(strict_types=1);

[, $host, $port, $database, $user] = $argv;
$big = (int) ($argv[5] ?? 17 * 1024 * 1024);
$own = 'php_' . getmypid();
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

function same(string $what, mixed $found, mixed $expected): void
{
    if ($found !== $expected) {
        fwrite(STDERR, substr("MISMATCH $what: found " . var_export($found, true) . ', expected ' . var_export($expected, true), 0, 600) . "\n");
        exit(1);
    }
    echo "ok $what\n";
}

function connect(string $to): mysqli
{
    global $host, $port, $user;
    $db = mysqli_init();
    $db->options(MYSQLI_OPT_LOCAL_INFILE, true);
    $flags = getenv('COMPRESS') ? MYSQLI_CLIENT_COMPRESS : 0;
    $db->real_connect($host === 'localhost' ? '127.0.0.1' : $host, $user, '', $to, (int) $port, null, $flags);
    $db->set_charset('utf8mb4');
    return $db;
}

function refused(string $what, array $codes, callable $act): void
{
    try {
        $act();
    } catch (mysqli_sql_exception $error) {
        same($what, in_array($error->getCode(), $codes, true) ?: $error->getMessage(), true);
        return;
    }
    same($what, 'did not fail', '');
}

$db = connect($database);
[$name, $number] = $db->query('select current_user(), connection_id()')->fetch_row();
same('user', $name, "$user@%");
same('connection id', $db->thread_id, (int) $number);
$db->query("create table $own (id int primary key, text varchar(80)) charset utf8mb4");
$insert = $db->prepare("insert into $own values (?, ?)");
for ($id = 0; $id < 1000; $id++) {
    $text = "Zeile $id ü🐬";
    $insert->bind_param('is', $id, $text);
    $insert->execute();
}
$insert->close();
$select = $db->prepare("select text from $own where id = ?");
$select->execute([7]);
same('prepared', $select->get_result()->fetch_row(), ['Zeile 7 ü🐬']);
$select->close();
$sum = 0;
$rows = $db->query("select a.id + b.id from $own a, $own b where b.id < 100", MYSQLI_USE_RESULT);
foreach ($rows as $row) {
    $sum += (int) array_values($row)[0];
}
$rows->free();
same('many rows', $sum, 54_900_000);
$db->multi_query("select 1; update $own set text = 'neu' where id < 3; select 'zwei'");
$found = [];
do {
    $result = $db->store_result();
    $found[] = $result ? $result->fetch_row()[0] : $db->affected_rows;
} while ($db->more_results() && $db->next_result());
same('multi-statements', $found, ['1', 3, 'zwei']);

$file = tempnam(sys_get_temp_dir(), 'php');
file_put_contents($file, implode('', array_map(fn ($id) => "$id\tin\n", range(1000, 20999))));
$db->query("load data local infile '$file' into table $own");
same('local infile', $db->affected_rows, 20_000);
unlink($file);

same('big row', strlen($db->query("select repeat('r', $big)")->fetch_row()[0]), $big);
same('big packet', $db->query("select length('" . str_repeat('w', $big) . "')")->fetch_row(), [(string) $big]);
refused('error', [1146], fn () => $db->query('select * from nowhere'));
refused('refusal at login', [1044], fn () => connect('no_such_database'));
$db->change_user('readonly', '', $database);
same('change of user', $db->query('select current_user()')->fetch_row(), ['readonly@%']);
$db->change_user($user, '', $database);
$other = connect($database);
$db->query("kill {$other->thread_id}");
refused('killed', [2006, 2013, 1927], fn () => $other->query('select 1'));
$db->query("drop table $own");
$db->close();
echo 'ok PHP ' . PHP_VERSION . "\n";
