// Package backup is about backups of a stack's Redis data: their file format, their
// encryption, where they are kept, and how one is verified. Which node the data comes
// from, and when, is package supervise's.
//
// A backup is one file, a tar archive (GNU) whose members stand in this order:
//
//	manifest.json    what the backup is: Manifest; always manifestSize bytes, the
//	                 rest of them line ends
//	dump.rdb         all data, as Redis writes it; dump.rdb.age when it is encrypted
//	stack.json.age   ports and passwords of the stack; only in an encrypted backup
//	SHA256SUMS       the SHA-256 of each of these, as sha256sum writes it
//
// "tar xf" and "sha256sum -c SHA256SUMS" take it apart and check it without
// Holdfast, "age -d" decrypts it. A reader here accepts these bytes and no others: what
// a tar archive may have beside them, such as a byte in its padding, is damage.
package backup
