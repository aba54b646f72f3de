package run

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLockFolder: one run at a time trains in a folder, and the next may once it is done.
func TestLockFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "runs", "one")
	unlock, err := lockFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(folder); err == nil || !strings.Contains(err.Error(), "another process is training in "+folder) {
		t.Errorf("a second lock gave %v", err)
	}
	unlock()
	again, err := lockFolder(folder)
	if err != nil {
		t.Fatalf("after the first was released: %v", err)
	}
	again()
}

// TestResumeLeavesARunAlone: resuming a run that trains is refused before anything in its folder is touched: not even the
// half-written checkpoint, which the next resume takes away.
func TestResumeLeavesARunAlone(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	mustRun(t, cfg)
	half := filepath.Join(cfg.Out, checkpointsName, ".step-00000099.polar-tmp-1")
	if err := os.Mkdir(half, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockFolder(cfg.Out)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Resume = true
	_, err = Prepare(context.Background(), cfg, nil)
	mustSay(t, err, "another process is training in")
	if _, err := os.Stat(half); err != nil {
		t.Errorf("the other process's checkpoint: %v", err)
	}
	unlock()
	session, err := Prepare(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the other process: %v, want no such file", err)
	}
	if _, err := lockFolder(cfg.Out); err == nil {
		t.Error("a prepared session does not hold its folder")
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockFolder(cfg.Out)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	again()
}

// TestRunLooksAgain: a folder that another run was written into after Prepare is not written over.
func TestRunLooksAgain(t *testing.T) {
	cfg := tune(t, tinyModel(t), writeFile(t, "text.txt", words(300, 1)))
	late, err := Prepare(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	mustRun(t, cfg)
	_, err = late.Run(context.Background())
	mustSay(t, err, "already holds a run")
}
