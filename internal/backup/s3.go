package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast/internal/quote"
)

// S3Config is the address of an S3-compatible storage, and the credentials for it.
type S3Config struct {
	// Endpoint is a URL such as https://minio.example:9000, or empty for Amazon's.
	Endpoint string
	// Region may be empty if the storage has none, or reports it.
	Region string
	// AccessKey, SecretKey and SessionToken are the credentials; the last may be
	// empty.
	AccessKey, SecretKey, SessionToken string
}

// S3Scheme is the beginning of a bucket's URL: s3://BUCKET/PREFIX.
const S3Scheme = "s3://"

// s3Store is a Store that keeps backups in a bucket of an S3-compatible storage.
type s3Store struct {
	client         *minio.Client
	bucket, prefix string
}

// s3Patience is how long a storage may take to begin an answer. Sending a whole backup may
// take longer.
const s3Patience = 30 * time.Second

// partSize is the size of the parts in which a backup is sent, in bytes. S3 allows
// 10,000 parts, so a backup may have 640 GB.
const partSize = 64 << 20

// NewS3 returns a Store for a URL such as s3://bucket/prefix. It does not connect.
func NewS3(to string, cfg S3Config) (Store, error) {
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(to, S3Scheme), "/")
	if bucket == "" {
		return nil, fmt.Errorf("%s names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX", to)
	}
	if cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, fmt.Errorf("there are no credentials for %s: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or name a file with them (backup.s3.credentials-file)", to)
	}

	secure, host := true, "s3.amazonaws.com"
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			return nil, errors.New("the endpoint of the S3 storage is no URL such as https://minio.example:9000")
		}
		secure, host = u.Scheme == "https", u.Host
	}

	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	transport.ResponseHeaderTimeout = s3Patience

	client, err := minio.New(host, &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, cfg.SessionToken),
		Secure: secure, Region: cfg.Region, Transport: transport, MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("the S3 storage: %w", err)
	}
	return &s3Store{client: client, bucket: bucket, prefix: strings.Trim(prefix, "/")}, nil
}

func (s *s3Store) TempDir() string { return "" }

func (s *s3Store) object(name string) string { return path.Join(s.prefix, name) }

func (s *s3Store) Where(name string) string { return S3Scheme + path.Join(s.bucket, s.object(name)) }

// Put sends a file. The storage checks the MD5 of each part, and shows an object only
// when it is complete.
func (s *s3Store) Put(ctx context.Context, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	sent, err := s.client.PutObject(ctx, s.bucket, s.object(name), f, info.Size(), minio.PutObjectOptions{
		ContentType: "application/x-tar", SendContentMd5: true, PartSize: partSize, NumThreads: 1,
	})
	if err != nil {
		return fmt.Errorf("send it to %s: %w", s.Where(name), s3Error(err))
	}
	if sent.Size != info.Size() {
		return fmt.Errorf("send it to %s: %d of %d bytes arrived", s.Where(name), sent.Size, info.Size())
	}
	return nil
}

func (s *s3Store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.object(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error(err)
	}
	return s3Object{o}, nil
}

// s3Object hides the Seek of an object, so that it is read once, from its beginning to
// its end.
type s3Object struct{ io.ReadCloser }

func (s *s3Store) List(ctx context.Context) (names []string, err error) {
	under := s.prefix
	if under != "" {
		under += "/"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: under}) {
		if o.Err != nil {
			return nil, s3Error(o.Err)
		}
		names = append(names, strings.TrimPrefix(o.Key, under))
	}
	return names, nil
}

func (s *s3Store) Remove(ctx context.Context, name string) error {
	return s3Error(s.client.RemoveObject(ctx, s.bucket, s.object(name), minio.RemoveObjectOptions{}))
}

// s3Error returns a readable form of a storage's error. It contains no credentials.
func s3Error(err error) error {
	var no minio.ErrorResponse
	if !errors.As(err, &no) || no.StatusCode == 0 {
		return err
	}
	switch no.Code {
	case "NoSuchBucket":
		return fmt.Errorf("there is no bucket %q there: make it first", no.BucketName)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Errorf("the storage refuses the credentials (%s)", no.Code)
	}
	return fmt.Errorf("the storage answers %d %s (%s)", no.StatusCode, http.StatusText(no.StatusCode), quote.Text(no.Code))
}
