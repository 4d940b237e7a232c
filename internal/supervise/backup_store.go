package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// OpenStore returns the place that a stack's backups go to: a directory, which is made if it is
// missing, or a bucket. Relative paths start in baseDir. Credentials come from the file that the
// stack names, or else from environ. It makes no connection.
func OpenStore(to string, b stack.Backup, baseDir string, environ []string) (backup.Store, error) {
	if !strings.HasPrefix(to, backup.S3Scheme) {
		path := plan.Resolve(baseDir, to)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory for backups: %w", err)
		}
		return backup.Dir(path), nil
	}
	c := backup.S3Config{
		Endpoint: b.S3.Endpoint, Region: b.S3.Region,
		AccessKey: machine.Variable(environ, "AWS_ACCESS_KEY_ID"), SecretKey: machine.Variable(environ, "AWS_SECRET_ACCESS_KEY"),
		SessionToken: machine.Variable(environ, "AWS_SESSION_TOKEN"),
	}
	if name := b.S3.CredentialsFile; name != "" {
		path := plan.Resolve(baseDir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("backup.s3.credentials-file: %w", err)
		}
		if c.AccessKey, c.SecretKey, c.SessionToken, err = readCredentials(content); err != nil {
			return nil, fmt.Errorf("backup.s3.credentials-file: %s: %w", quote.Text(path), err)
		}
	}
	return backup.NewS3(to, c)
}

// readCredentials reads AWS' shared credentials file: lines "name = value", in the section
// [default] or before any section.
func readCredentials(content []byte) (access, secret, token string, err error) {
	to := map[string]*string{"aws_access_key_id": &access, "aws_secret_access_key": &secret, "aws_session_token": &token}
	profile := "default"
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			profile = strings.Trim(line, "[] ")
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if at := to[strings.ToLower(strings.TrimSpace(name))]; found && at != nil && profile == "default" {
			*at = strings.TrimSpace(value)
		}
	}
	if lines.Err() != nil || access == "" || secret == "" {
		return "", "", "", errors.New("it has no lines aws_access_key_id = … and aws_secret_access_key = … (below [default], or below nothing)")
	}
	return access, secret, token, nil
}

// EncryptionOf returns how a stack's backups are encrypted.
func EncryptionOf(b stack.Backup, baseDir string) (encrypt.Encryption, error) {
	passphrase := ""
	if b.PassphraseFile != "" {
		var err error
		if passphrase, err = ReadPassphrase(plan.Resolve(baseDir, b.PassphraseFile)); err != nil {
			return encrypt.Encryption{}, err
		}
	}
	return encrypt.For(passphrase, b.Recipients)
}

// ReadPassphrase reads a passphrase from the first line of a file.
func ReadPassphrase(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("the passphrase: %w", err)
	}
	passphrase, err := encrypt.ReadPassphrase(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", quote.Text(path), err)
	}
	return passphrase, nil
}

// RedisServer returns the path of the server on this machine that a stack's redis nodes run.
// With redis.server: auto it is the server whose data is in the state directory. It returns an
// error if there is no such server, or if it cannot be used.
func RedisServer(of stack.Redis, stateDir string) (string, error) {
	ctx := context.Background()
	data, _ := dirAt(stateDir).recordedServer(ctx)
	return hostsAt("").here.findProgram(ctx, plan.RedisProgram(of), data.Name)
}
