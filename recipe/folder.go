package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/polargo/polar/internal/atomicfile"
)

// The files of an experiment's folder. identityFile is written first and says whose folder it is; each finished trial is a file
// of its own, so that a killed program loses at most the trial it was at.
const (
	identityFile = "experiment.json"
	trialsFolder = "trials"
	reportFile   = "report.md"
	summaryFile  = "summary.json"
	lockFile     = ".lock"
)

// identity is what the trials in a folder have in common.
type identity struct {
	Experiment string `json:"experiment"`
	Size       Size   `json:"size"`
	Settings   string `json:"settings"`
	// Versions are those of all programs that computed trials here, oldest first.
	Versions []map[string]string `json:"versions"`
}

// folder is an experiment's folder, held by its lock.
type folder struct {
	dir      string
	identity identity
	unlock   func()
}

// openFolder creates the folder or opens one that was made for the same experiment. Anything else there is refused.
func openFolder(dir string, want identity) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create folder of the experiment: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, unlock: unlock}
	if err := f.claim(want); err != nil {
		unlock()
		return nil, err
	}
	return f, nil
}

// lock takes the folder's lock, which the system lets go with the process.
func lock(dir string) (unlock func(), err error) {
	l := flock.New(filepath.Join(dir, lockFile))
	held, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock folder of the experiment: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("another process is at work in %s: wait for it, or name another folder", dir)
	}
	return func() { _ = l.Close() }, nil
}

// claim makes an empty folder the experiment's, or compares what is there with what is wanted.
func (f *folder) claim(want identity) error {
	text, err := os.ReadFile(filepath.Join(f.dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.mustBeEmpty(); err != nil {
			return err
		}
		f.identity = want
		return f.writeIdentity()
	}
	if err != nil {
		return fmt.Errorf("read the experiment in %s: %w", f.dir, err)
	}
	var have identity
	if err := json.Unmarshal(text, &have); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(f.dir, identityFile), err)
	}
	switch {
	case have.Experiment != want.Experiment:
		return fmt.Errorf("%s holds the experiment %s, not %s: name another folder", f.dir, have.Experiment, want.Experiment)
	case have.Size != want.Size:
		return fmt.Errorf("%s holds %s %s, not %s: name another folder", f.dir, have.Experiment, have.Size, want.Size)
	case have.Settings != want.Settings:
		return fmt.Errorf("%s holds %s %s with other settings, from another version of polar: name another folder", f.dir, have.Experiment, have.Size)
	}
	f.identity = have
	return f.addVersions(want.Versions[0])
}

// mustBeEmpty refuses a folder with files that are not an experiment's.
func (f *folder) mustBeEmpty() error {
	names, err := os.ReadDir(f.dir)
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.dir, err)
	}
	for _, name := range names {
		if name.Name() != lockFile {
			return fmt.Errorf("%s is not empty and holds no experiment (it has %s): name another folder", f.dir, name.Name())
		}
	}
	return nil
}

// addVersions notes that another program goes on with the folder's trials.
func (f *folder) addVersions(now map[string]string) error {
	for _, had := range f.identity.Versions {
		if len(otherVersions(had, now)) == 0 {
			return nil
		}
	}
	f.identity.Versions = append(f.identity.Versions, now)
	return f.writeIdentity()
}

func (f *folder) writeIdentity() error {
	if err := os.MkdirAll(filepath.Join(f.dir, trialsFolder), 0o755); err != nil {
		return fmt.Errorf("create folder of trials: %w", err)
	}
	return f.writeJSON(identityFile, f.identity)
}

func (f *folder) writeJSON(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(f.dir, name), append(text, '\n'))
}

// trialPath is the file of a trial.
func (f *folder) trialPath(key string) string { return filepath.Join(f.dir, trialsFolder, key+".json") }

// load returns a finished trial. damaged is set for a file that cannot be read as this trial's result, which is computed again.
func (f *folder) load(key string) (r Result, found, damaged bool, err error) {
	text, err := os.ReadFile(f.trialPath(key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, false, false, nil
	case err != nil:
		return r, false, false, fmt.Errorf("read trial: %w", err)
	}
	if json.Unmarshal(text, &r) != nil || r.Key != key || len(r.Values) == 0 {
		return Result{}, false, true, nil
	}
	return r, true, false, nil
}

// save keeps a finished trial.
func (f *folder) save(r Result) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(f.trialPath(r.Key), append(text, '\n'))
}

// clean removes what killed writers left.
func (f *folder) clean() error {
	return errors.Join(atomicfile.Clean(f.dir), atomicfile.Clean(filepath.Join(f.dir, trialsFolder)))
}
