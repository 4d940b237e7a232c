package stack

import (
	"strings"
	"time"
)

// Backup is when and where the stack's Redis data is backed up.
type Backup struct {
	// Every is the time between two backups; 0: only 'holdfast backup' takes one.
	Every time.Duration `yaml:"every"`
	// Keep is how many backups are kept. Older ones are removed.
	Keep int `yaml:"keep"`
	// To is a directory, relative to the stack file, or the URL of a bucket
	// (s3://BUCKET/PREFIX); empty: there are no backups.
	To string `yaml:"to"`
	// PassphraseFile is a file whose first line is the passphrase that backups are encrypted with;
	// relative to the stack file. Recipients are the age recipients that they are encrypted for.
	PassphraseFile string   `yaml:"passphrase-file"`
	Recipients     []string `yaml:"recipients"`
	S3             S3       `yaml:"s3"`
}

// S3 is an S3-compatible storage.
type S3 struct {
	// Endpoint is its URL; empty: Amazon's.
	Endpoint string `yaml:"endpoint"`
	Region   string `yaml:"region"`
	// CredentialsFile has the access key and the secret key in the form of AWS' shared credentials
	// file; relative to the stack file. Without it the keys come from the supervisor's environment.
	CredentialsFile string `yaml:"credentials-file"`
}

const s3Scheme = "s3://"

// Bucket reports whether backups go to an S3-compatible storage.
func (b Backup) Bucket() bool { return strings.HasPrefix(b.To, s3Scheme) }

const (
	// leastEvery is the shortest time between two backups, because each backup forks a redis node.
	leastEvery = time.Minute
	maxKept    = 100_000
)

var backupKeys = []key[Backup]{
	durationKey("every", leastEvery, func(b *Backup) *time.Duration { return &b.Every },
		"The time between two backups that the supervisor takes; none, without this key. 'holdfast backup' takes one at any time."),
	numberKey("keep", 1, maxKept, func(b *Backup) *int { return &b.Keep },
		"How many backups are kept. The oldest are removed when a newer one was stored and verified. Default: 24."),
	textKey("to", backupRule, func(b *Backup) *string { return &b.To },
		"Where backups are kept: a directory, relative to this file, or s3://BUCKET/PREFIX."),
	textKey("passphrase-file", fileRule, func(b *Backup) *string { return &b.PassphraseFile },
		"A file whose first line is the passphrase that backups are encrypted with; relative to this file."),
	textsKey("recipients", recipientRule, false, func(b *Backup) *[]string { return &b.Recipients },
		"Public keys that backups are encrypted for (age1…, see age-keygen); who has the secret key of one can read them. This machine cannot."),
	sectionKey("s3", s3Keys, func(b *Backup) *S3 { return &b.S3 },
		"The storage of s3://BUCKET/PREFIX."),
}

var s3Keys = []key[S3]{
	textKey("endpoint", endpointRule, func(s *S3) *string { return &s.Endpoint },
		"The URL of the storage, such as https://minio.example:9000. Default: Amazon's."),
	textKey("region", regionRule, func(s *S3) *string { return &s.Region },
		"The region of the bucket, where the storage has regions."),
	textKey("credentials-file", fileRule, func(s *S3) *string { return &s.CredentialsFile },
		"A file with aws_access_key_id and aws_secret_access_key, as AWS' tools have it; relative to this file. Default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the supervisor's environment."),
}

// backupKey is the section backup. Show leaves it out when there are no backups.
func backupKey() key[Stack] {
	k := sectionKey("backup", backupKeys, func(s *Stack) *Backup { return &s.Backup },
		"Backups of the data of Redis.")
	show := k.show
	k.show = func(s *Stack) any {
		if s.Backup.To == "" {
			return nil
		}
		m := show(s).(mapping)
		out := mapping{}
		for _, p := range m {
			if p.key == "every" && s.Backup.Every == 0 || p.key == "s3" && !s.Backup.Bucket() {
				continue
			}
			out = append(out, p)
		}
		return out
	}
	return k
}

func validateBackup(r *reader, s Stack) {
	b := s.Backup
	switch {
	case b.To == "" && r.has("backup") && !r.faulty("backup/to"):
		r.Report(r.positionOf("backup"), "backup: it has no place to go to: add to, such as to: ./backups or to: s3://BUCKET/PREFIX")
	case b.PassphraseFile != "" && len(b.Recipients) > 0:
		r.Report(r.positionOf("backup/recipients"), "backup.recipients: a backup is encrypted by a passphrase or for recipients: remove passphrase-file, or recipients")
	case r.has("backup/s3") && b.To != "" && !b.Bucket():
		r.Report(r.positionOf("backup/s3"), "backup.s3: backups go to the directory %s: write to: s3://BUCKET/PREFIX, or remove s3", b.To)
	case b.To != "" && !s.Redis.Enabled && !r.faulty("redis/enabled"):
		r.Report(r.positionOf("backup"), "backup: the stack has no Redis, and so no data: remove it")
	}
}
