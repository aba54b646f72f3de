// Package atomicfile writes files and folders so that a reader, or a program killed at any moment, sees the old content
// or the new one and never a part of it: write under a temporary name beside the target, sync, rename, sync the folder.
//
// github.com/google/renameio is the usual library for this; it leaves out Windows, for which Polar is also built.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempMark is part of every temporary name; Clean removes what a killed program left behind.
const tempMark = ".polar-tmp-"

// Write replaces the file at path by what fill writes. On error the file is as it was and the temporary one is gone.
func Write(path string, fill func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+tempMark+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
			err = &fs.PathError{Op: "write", Path: path, Err: reason(err)}
		}
	}()
	if err = fill(file); err != nil {
		return err
	}
	if err = errors.Join(file.Chmod(0o644), file.Sync()); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// reason is an error without the operation and the temporary path it happened on, which say nothing to the reader of a
// message that names the target: a file that fails inside a folder being written is reported as the folder.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// WriteBytes replaces the file at path by data.
func WriteBytes(path string, data []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFolder replaces the folder at path by one that fill fills under a temporary name. On error the folder is as it was.
func WriteFolder(path string, fill func(dir string) error) (err error) {
	path = filepath.Clean(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+tempMark+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(temp)
			err = &fs.PathError{Op: "write", Path: path, Err: reason(err)}
		}
	}()
	if err = os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err = fill(temp); err != nil {
		return err
	}
	if err = syncTree(temp); err != nil {
		return err
	}
	return replaceFolder(temp, path)
}

// replaceFolder moves an old folder aside before the new one takes its name: a folder that is not empty cannot be
// renamed over. Recover puts the old one back if the program died between the two renames.
func replaceFolder(temp, path string) error {
	aside := asideName(path)
	_ = os.RemoveAll(aside)
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Rename(aside, path)
		return err
	}
	syncFolder(filepath.Dir(path))
	return os.RemoveAll(aside)
}

func asideName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+tempMark+"old")
}

// Recover finishes what a killed WriteFolder left: where path is missing and its old content is still aside, it returns
// to its name.
func Recover(path string) error {
	path = filepath.Clean(path)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.Rename(asideName(path), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Clean removes from dir the temporary files and folders that killed writers left. Nothing else may be writing there.
func Clean(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.Contains(name.Name(), tempMark) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name.Name())))
		}
	}
	return err
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(file.Sync(), file.Close())
	})
}

// syncFolder makes a rename durable. Not every system can sync a folder (Windows cannot); the rename stands without it.
func syncFolder(dir string) {
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}
