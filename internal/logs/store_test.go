package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 123456000, time.UTC)

const noonStamp = "2026-11-28T12:00:00.123456Z "

// read returns the content of a file; nothing if the file does not exist.
func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// taken returns how many bytes the files of a log take, and how many there are.
func taken(t *testing.T, path string) (bytes int64, files int) {
	t.Helper()
	paths, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil { // it may be being renamed
			bytes += info.Size()
		}
	}
	return bytes, len(paths)
}

func TestLinesAreStampedWhateverAProcessWrites(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		chunks []string
		want   []string
	}{
		"whole lines":               {[]string{"a\nb\n"}, []string{"a", "b"}},
		"a line in pieces":          {[]string{"he", "ll", "o\nyou\n"}, []string{"hello", "you"}},
		"empty lines":               {[]string{"\n\n"}, []string{"", ""}},
		"no end":                    {[]string{"a\nprompt: "}, []string{"a", "prompt: "}},
		"any bytes":                 {[]string{"\x00\xff\x1b[2J\r\n"}, []string{"\x00\xff\x1b[2J\r"}},
		"a line of the most length": {[]string{long, "\nb\n"}, []string{long, "b"}},
		"a line that never ends":    {[]string{long + long[:10], long}, []string{long, long, long[:10]}},
		"a stamp of its own":        {[]string{noonStamp + "a\n"}, []string{noonStamp + "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			lines := 0
			cut := cutter{emit: func(b []byte, n int) {
				got += string(b)
				lines += n
			}}
			for _, chunk := range c.chunks {
				cut.add([]byte(chunk), noon)
			}
			cut.close()
			want := ""
			for _, line := range c.want {
				want += noonStamp + line + "\n"
			}
			if got != want || lines != len(c.want) {
				t.Errorf("%d lines %.200q, want %d lines %.200q", lines, got, len(c.want), want)
			}
		})
	}
}

func TestTheLimitHoldsHoweverMuchIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	s := newStore(path)
	defer s.close()
	const lines, size = 2000, 100 << 10
	for i := range lines {
		line := fmt.Sprintf("%d ", i)
		s.write([]byte(line+strings.Repeat("x", size-len(line)-1)+"\n"), 1)
		if all, _ := taken(t, path); all > (fileKeep+1)*fileSize {
			t.Fatalf("%d bytes are taken after %d lines", all, i)
		}
	}
	all, files := taken(t, path)
	if files != fileKeep+1 || all < fileKeep*fileSize*9/10 {
		t.Errorf("%d files with %d bytes", files, all)
	}
	if b := read(path); !strings.Contains(b, fmt.Sprintf("\n%d ", lines-1)) || !strings.HasSuffix(b, "x\n") {
		t.Error("the last line is not in the newest file")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
}

func TestWhatAFullDiskCostsIsCounted(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full")
	}
	path := filepath.Join(t.TempDir(), "node.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	s := newStore(path)
	defer s.close()
	s.write([]byte("a\nb\n"), 2)
	s.write([]byte("c\n"), 1)
	if s.missed != 3 {
		t.Errorf("missed = %d", s.missed)
	}

	if err := os.Remove(path); err != nil { // there is room again
		t.Fatal(err)
	}
	s.looked = time.Time{}
	s.write([]byte("d\n"), 1)
	s.write([]byte("e\n"), 1)
	note, rest, _ := strings.Cut(read(path), "\n")
	if !strings.Contains(note, "3 lines before this one are lost") || !strings.Contains(note, "no space left") || rest != "d\ne\n" {
		t.Errorf("log = %q, %q", note, rest)
	}
}

func TestALogThatWasRemovedOrEmptiedGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	s := newStore(path)
	defer s.close()
	s.write([]byte("a\n"), 1)
	os.Remove(path)
	s.looked = time.Time{}
	s.write([]byte("b\n"), 1)
	if got := read(path); got != "b\n" {
		t.Errorf("after it was removed: %q", got)
	}
	os.Truncate(path, 0)
	s.looked = time.Time{}
	s.write([]byte("c\n"), 1)
	if got := read(path); got != "c\n" || s.length != 2 {
		t.Errorf("after it was emptied: %q, length %d", got, s.length)
	}
}

func TestALineThatAKilledWriterLeftHasAnEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	os.WriteFile(path, []byte("a\nhal"), 0o600)
	s := newStore(path)
	defer s.close()
	s.write([]byte("b\n"), 1)
	if got := read(path); got != "a\nhal\nb\n" {
		t.Errorf("log = %q", got)
	}
}

func TestANodeWaitsForASlowDiskOnceAndThenLosesLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	o := newOutbox() // nothing is stored yet
	full := []byte(strings.Repeat("x", outboxMost-1) + "\n")
	o.put(full, 1)

	began := time.Now()
	o.put([]byte("b\nc\n"), 2)
	if took := time.Since(began); took < patience {
		t.Errorf("it waited %v for room", took)
	}
	o.put([]byte("d\n"), 1)
	if o.dropped != 3 {
		t.Errorf("dropped = %d", o.dropped)
	}

	kept := make(chan struct{})
	go func() {
		defer close(kept)
		o.keep(newStore(path))
	}()
	done := make(chan struct{})
	o.ask(done)
	<-done
	o.put([]byte("e\n"), 1)
	o.put([]byte("f\n"), 1)
	o.close()
	<-kept
	rest, there := strings.CutPrefix(read(path), string(full))
	note, rest, _ := strings.Cut(rest, "\n")
	if !there || !strings.Contains(note, "3 lines before this one are lost") || rest != "e\nf\n" {
		t.Errorf("after what found room: %q, %q", note, rest)
	}
}
