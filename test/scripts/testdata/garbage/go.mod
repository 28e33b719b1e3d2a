module github.com/millrace-io/millrace/test/scripts/testdata/garbage

go 1.24
