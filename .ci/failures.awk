# Reads the output of 'go test -v' and prints, for each test that failed, the first
# line of each of its messages. Tests that run side by side mix their output, and
# what a failed stack logged is long.
/^=== (RUN|CONT|NAME)/ { test = $3; next }
/^ *--- FAIL: /        { failed[++n] = $3; next }
/_test\.go:[0-9]+: /   { if (count[test]++ < 8) said[test] = said[test] substr($0, 1, 600) "\n" }
/^(panic:|fatal error:|WARNING: DATA RACE)/ { print }
END                    { for (i = 1; i <= n; i++) printf "%s\n%s", failed[i], said[failed[i]] }
