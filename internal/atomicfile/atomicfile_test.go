package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteKeepsOldContentOnError(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteBytes(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("disk full")
	err := Write(path, func(w io.Writer) error {
		_, _ = w.Write([]byte("half of the new"))
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatalf("error %v, want it to wrap the cause", err)
	}
	expectOnly(t, dir, "f", "old")
	if err := WriteBytes(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	expectOnly(t, dir, "f", "new")
}

func TestWriteFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	fill := func(text string) func(string) error {
		return func(tmp string) error { return os.WriteFile(filepath.Join(tmp, "f"), []byte(text), 0o644) }
	}
	for _, text := range []string{"first", "second"} {
		if err := WriteFolder(path, fill(text)); err != nil {
			t.Fatal(err)
		}
		expectOnly(t, path, "f", text)
		expectOnly(t, dir, "out", "")
	}
	if err := WriteFolder(path, func(tmp string) error { return errors.Join(fill("third")(tmp), errors.New("stop")) }); err == nil {
		t.Fatal("no error")
	}
	expectOnly(t, path, "f", "second")
	expectOnly(t, dir, "out", "")
}

func TestRecoverAfterKillBetweenRenames(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	if err := os.Mkdir(asideName(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Recover(path); err != nil {
		t.Fatal(err)
	}
	expectOnly(t, dir, "out", "")
}

func TestCleanRemovesOnlyTemporaries(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"keep", ".keep", ".f" + tempMark + "123"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Fatalf("left %v, want .keep and keep", left)
	}
}

func expectOnly(t *testing.T, dir, name, content string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != name {
		t.Fatalf("%s holds %v (%v), want only %s", dir, names, err, name)
	}
	if content == "" {
		return
	}
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || string(got) != content {
		t.Fatalf("content %q (%v), want %q", got, err, content)
	}
}

// TestSHA256 holds the checksum of the standard's example "abc" (FIPS 180-4).
func TestSHA256(t *testing.T) {
	path := filepath.Join(t.TempDir(), "abc")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := SHA256(path)
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := SHA256(path + "x"); err == nil {
		t.Error("a missing file has a checksum")
	}
}

// TestErrorsNameTheTarget: not the temporary path, however deep the failure; the cause can still be told.
func TestErrorsNameTheTarget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder")
	err := WriteFolder(path, func(dir string) error {
		return Write(filepath.Join(dir, "missing", "file"), func(io.Writer) error { return nil })
	})
	if want := "write " + path + ": "; !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), tempMark) {
		t.Errorf("%v, want %s and the cause", err, want)
	}
	failed := errors.New("failed")
	err = WriteFolder(path, func(dir string) error {
		return Write(filepath.Join(dir, "file"), func(io.Writer) error { return failed })
	})
	if want := "write " + path + ": failed"; err == nil || err.Error() != want || !errors.Is(err, failed) {
		t.Errorf("%v, want %s", err, want)
	}
}
