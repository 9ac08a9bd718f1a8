// pgjdbc on connections that break, judged as HikariCP does. See ../python/reconnect.py for what is said and waited for.
// Run from its source: java -cp /usr/share/java/postgresql.jar Reconnect.java HOST PORT DATABASE USER

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Set;

public final class Reconnect {
    // HikariCP's ProxyConnection: class 08, and these.
    private static final Set<String> LOST = Set.of("0A000", "57P01", "57P02", "57P03", "01002", "JZ0C0", "JZ0C1");
    private static final BufferedReader LINES = new BufferedReader(new InputStreamReader(System.in));

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + args[0] + ":" + args[1] + "/" + args[2] + "?sslmode=disable&user=" + args[3];
        Connection db = DriverManager.getConnection(url);
        one(db);
        wait("idle pgjdbc");
        check("a broken connection is not valid", !db.isValid(10));
        db = DriverManager.getConnection(url);
        String mark = "pgjdbc " + args[1];
        System.out.println("busy " + mark);
        try (Statement statement = db.createStatement()) {
            statement.execute("select pg_sleep(120), '" + mark + "'");
            throw new IllegalStateException("the query was to be cut off");
        } catch (SQLException error) {
            String state = error.getSQLState();
            check("a query that is cut off is a lost connection: " + state, state.startsWith("08") || LOST.contains(state));
        }
        check("and not valid", !db.isValid(10));
        wait("again pgjdbc");
        one(DriverManager.getConnection(url));
        System.out.println("ok pgjdbc: connects once more");
    }

    private static void one(Connection db) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery("select 1")) {
            rows.next();
        }
    }

    private static void check(String what, boolean holds) {
        if (!holds) {
            throw new IllegalStateException("MISMATCH pgjdbc: " + what);
        }
        System.out.println("ok pgjdbc: " + what);
    }

    private static void wait(String what) throws Exception {
        System.out.println(what);
        LINES.readLine();
    }
}
