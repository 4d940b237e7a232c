# Reads the output of 'go test -v' of several packages and prints, for each package that
# failed, its name and those of its tests that failed. A package that failed without a test
# that did (it did not compile, it panicked, a race was found in it) has none.
/^--- FAIL: /   { names = names " " $3; next }
/^ok[ \t]/      { names = ""; next }
/^FAIL[ \t]+[^ \t]/ { print $2 names; names = "" }
