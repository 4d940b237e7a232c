// Package backup handles backups of a stack's Redis data. It writes them (write.go),
// stores them (Store: dir.go, s3.go), and verifies them, down to loading the data into
// a Redis server (check.go, rdb.go, verify.go, load.go). Which node the data comes
// from, and when a backup is made, is decided in package supervise.
//
// A backup is one file, a tar archive (GNU) with these members in this order:
//
//	manifest.json    what the backup is: a Manifest, filled up with line ends to
//	                 manifestSize bytes
//	dump.rdb         all data, as Redis dumps it; dump.rdb.age if it is encrypted
//	stack.json.age   ports and passwords of the stack; only in an encrypted backup
//	SHA256SUMS       the SHA-256 of each of these, as sha256sum writes it
//
// "tar xf" and "sha256sum -c SHA256SUMS" unpack and check it without Holdfast, and
// "age -d" decrypts it. This package accepts exactly the bytes that it writes. Anything
// else that a tar archive could contain, such as a byte in its padding, is damage.
package backup
