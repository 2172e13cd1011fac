import subprocess
import sys


def run(module, *arguments):
    command = [sys.executable, "-m", f"omnirouter.bin.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def write_data(folder):
    folder.mkdir()
    (folder / "text").write_text("u1 a b\nu2 c\n")
    (folder / "utt2spk").write_text("u1 s\nu2 s\n")


def test_from_hypotheses_to_the_table_of_results(tmp_path):
    write_data(tmp_path / "data")
    decode = tmp_path / "exp" / "small" / "decode_data"
    decode.mkdir(parents=True)
    (decode / "text").write_text("u1 a\nu2 c\n")
    scored = run("score", "--data", tmp_path / "data", "--hyp", decode / "text", "--output", decode / "score")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.splitlines()[0].split()[:7] == ["wer", "%WER", "33.33", "[", "1", "/", "3,"]
    shown = run("results", tmp_path / "exp")
    assert shown.returncode == 0, shown.stderr
    assert "33.33" in shown.stdout
    assert "| data | small |" in (tmp_path / "exp" / "RESULTS.md").read_text()


def test_sclites_alignment_and_a_page_of_results(tmp_path):
    write_data(tmp_path / "data")
    (tmp_path / "data" / "text").write_text("u1 a b c d\nu2 c\n")
    decode = tmp_path / "exp" / "small" / "decode_data"
    decode.mkdir(parents=True)
    (decode / "text").write_text("u1 c d e f\nu2 c\n")
    options = ("--data", tmp_path / "data", "--hyp", decode / "text", "--output", decode / "score")
    assert "4 sub ]" in run("score", *options).stdout.splitlines()[0]
    assert "2 ins, 2 del, 0 sub ]" in run("score", *options, "--align", "sclite").stdout.splitlines()[0]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results: begin -->\n<!-- results: end -->\n")
    shown = run("results", tmp_path / "exp", "--output", page, "--experiments", "small")
    assert shown.returncode == 0, shown.stderr
    assert page.read_text().startswith("before\n") and "| data by sclite | small |" in page.read_text()
    refused = run("results", tmp_path / "exp", "--output", page, "--experiments", "large")
    assert refused.returncode == 1 and "no scored experiment large" in refused.stderr


def test_a_missing_hypothesis_is_one_line_and_status_1(tmp_path):
    write_data(tmp_path / "data")
    (tmp_path / "text").write_text("u2 c\n")
    scored = run("score", "--data", tmp_path / "data", "--hyp", tmp_path / "text", "--output", tmp_path / "score")
    assert scored.returncode == 1
    assert scored.stderr.startswith("error: ") and "u1" in scored.stderr
    assert scored.stderr.count("\n") == 1
    assert not (tmp_path / "score").exists()
