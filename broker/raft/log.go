package raft

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"strings"
	"sync"
	"syscall"

	"github.com/lni/dragonboat/v4/logger"
)

// levels maps what dragonboat calls important to what an operator does: its
// Info lines are many per shard, so they are debug lines here.
type lineLogger struct {
	log *slog.Logger
}

func (l lineLogger) SetLevel(logger.LogLevel) {}

func (l lineLogger) line(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "raft library", "text", fmt.Sprintf(format, args...))
}

func (l lineLogger) Debugf(format string, args ...any) { l.line(slog.LevelDebug-4, format, args) }
func (l lineLogger) Infof(format string, args ...any)  { l.line(slog.LevelDebug, format, args) }
func (l lineLogger) Warningf(format string, args ...any) {
	l.line(slog.LevelDebug, format, args)
}
func (l lineLogger) Errorf(format string, args ...any) { l.line(slog.LevelError, format, args) }

// Panicf must not return: dragonboat relies on it to stop the process.
func (l lineLogger) Panicf(format string, args ...any) {
	l.line(slog.LevelError, format, args)
	panic(fmt.Sprintf(format, args...))
}

// UseLogger routes the process-wide logging of dragonboat, and of the database
// that holds its log, into log; without it both write to stderr in their own
// formats. dragonboat's goes to the first log given in a process, the database's
// to the last.
//
// fatal is told when that database cannot write what it must: it would repeat a
// failed flush for ever, and tell nobody but its logger. fatal ends the process;
// until then whoever met the error waits, so that nothing is acknowledged.
func UseLogger(log *slog.Logger, fatal func(error)) {
	useLogger.Do(func() {
		logger.SetLoggerFactory(func(pkg string) logger.ILogger {
			return lineLogger{log: log.With("package", pkg)}
		})
	})
	stdlog.SetFlags(0)
	stdlog.SetOutput(&databaseLines{log: log, fatal: fatal})
}

// useLogger: the library panics when it is given a second one.
var useLogger sync.Once

// ErrDatabase says that the database under the Raft log failed to write. The
// node must stop.
var ErrDatabase = errors.New("raft log cannot be written")

// databaseLines takes what comes by Go's standard logger: the database has no
// other way to tell of an error in its background work, and tells of one in a
// commit so before it panics.
type databaseLines struct {
	log   *slog.Logger
	fatal func(error)
}

// backgroundError begins the database's line about a failed flush or compaction.
const backgroundError = "background error: "

// deviceErrors are what a device, or its file system, answers to writes.
var deviceErrors = []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS}

// Write implements io.Writer. It does not return from what is fatal.
func (l *databaseLines) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if !deadly(text) {
		l.log.Warn("standard log", "text", text)
		return len(line), nil
	}
	l.fatal(fmt.Errorf("%w: %s", ErrDatabase, strings.TrimPrefix(text, backgroundError)))
	select {} // the process ends; the caller would go on, or panic
}

func deadly(text string) bool {
	if strings.HasPrefix(text, backgroundError) {
		return true
	}
	for _, e := range deviceErrors {
		if strings.HasSuffix(text, e.Error()) {
			return true
		}
	}
	return false
}
