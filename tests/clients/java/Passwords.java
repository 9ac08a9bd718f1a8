// JDBC drivers that log in with a password of their own.
//
// Arguments: URL USER QUERY-FOR-THE-USER SQLSTATE-OF-A-WRONG-PASSWORD. The password is in PASSWORD.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

public final class Passwords {
    public static void main(String[] args) throws SQLException {
        // On MySQL the first login is the one with the whole password, the second has its hash alone.
        for (int login = 1; login <= 2; login++) {
            try (Connection db = DriverManager.getConnection(args[0], args[1], System.getenv("PASSWORD"));
                    Statement statement = db.createStatement();
                    ResultSet rows = statement.executeQuery(args[2])) {
                rows.next();
                same("login " + login + " by " + db.getMetaData().getDriverName(), rows.getString(1), args[1]);
            }
        }
        try (Connection db = DriverManager.getConnection(args[0], args[1], "wrong")) {
            throw new AssertionError("MISMATCH a wrong password was taken");
        } catch (SQLException error) {
            same("wrong password", error.getSQLState(), args[3]);
        }
    }

    private static void same(String what, String found, String expected) {
        if (!expected.equals(found)) throw new AssertionError("MISMATCH " + what + ": " + found + " instead of " + expected);
        System.out.println("ok " + what);
    }
}
