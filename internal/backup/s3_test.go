package backup

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"holdfast/internal/encrypt"
)

const testKey, testSecret = "key-of-test", "secret-of-test"

// storage starts an S3 server in this process with one bucket. It refuses other access keys
// than the test's, and does not check signatures.
func storage(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	bucket := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+testKey+"/") {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>")
			return
		}
		bucket.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestABucketKeepsBackups(t *testing.T) {
	t.Parallel()
	cfg := S3Config{Endpoint: storage(t), AccessKey: testKey, SecretKey: testSecret, Region: "us-east-1"}
	store, err := NewS3("s3://backups/shop/daily", cfg)
	if err != nil {
		t.Fatal(err)
	}
	path, content := written(t, small(t), encrypt.Encryption{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var names []string
	for i := range 4 {
		names = append(names, Name("shop", at.Add(time.Duration(i)*time.Hour)))
		if err := store.Put(t.Context(), path, names[i]); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := Prune(t.Context(), store, "shop", 2); err != nil || !slices.Equal(gone, names[:2]) {
		t.Errorf("%v, %v", gone, err)
	}
	left, err := store.List(t.Context())
	slices.Sort(left)
	if err != nil || !slices.Equal(left, names[2:]) {
		t.Errorf("%v, %v", left, err)
	}
	r, err := store.Open(t.Context(), names[3])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
	}
	if want := "s3://backups/shop/daily/" + names[0]; store.Where(names[0]) != want {
		t.Errorf("%s, want %s", store.Where(names[0]), want)
	}
}

func TestWhatAStorageRefusesIsSaidWithoutCredentials(t *testing.T) {
	t.Parallel()
	url := storage(t)
	path, _ := written(t, small(t), encrypt.Encryption{})
	for _, c := range []struct {
		to   string
		cfg  S3Config
		want string
	}{
		{"s3://elsewhere", S3Config{Endpoint: url, AccessKey: testKey, SecretKey: testSecret, Region: "us-east-1"}, "no bucket"},
		{"s3://backups", S3Config{Endpoint: url, AccessKey: "other", SecretKey: testSecret, Region: "us-east-1"}, "credentials"},
	} {
		store, err := NewS3(c.to, c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = store.Put(t.Context(), path, "x.tar")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: %v", c.to, err)
		}
	}
	for _, c := range []struct {
		to  string
		cfg S3Config
	}{
		{"s3://", S3Config{AccessKey: "a", SecretKey: "b"}},
		{"s3://backups", S3Config{}},
		{"s3://backups", S3Config{Endpoint: "minio:9000", AccessKey: "a", SecretKey: "b"}},
	} {
		if _, err := NewS3(c.to, c.cfg); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
