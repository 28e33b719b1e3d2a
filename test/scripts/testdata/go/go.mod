module github.com/millrace-io/millrace/test/scripts/testdata/go

go 1.24

require github.com/millrace-io/millrace/sdk/go v0.0.0

replace github.com/millrace-io/millrace/sdk/go => ../../../../sdk/go
