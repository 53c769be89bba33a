"""SingleStore's BACKUP … TO S3 and RESTORE … FROM S3, with what they say of the place in JSON."""
import json

from cloud.bank import Bank
from harness.emulators import BUCKET


def test_backup_and_restore_through_s3(lab, minio):
    bank = Bank(lab)
    key, secret = minio.keys
    place = (f"S3 '{BUCKET}/singlestore' CONFIG '{json.dumps({'region': 'us-east-1', 'endpoint_url': minio.endpoint, 's3_force_path_style': True})}' "
             f"CREDENTIALS '{json.dumps({'aws_access_key_id': key, 'aws_secret_access_key': secret})}'")
    first = bank.daemon.sql(f"BACKUP DATABASE bank WITH INIT TO {place}").one()["backup_id"]
    bank.source.sql("UPDATE accounts SET balance = balance + 1 WHERE id = 1", "bank")
    bank.daemon.sql(f"BACKUP DATABASE bank WITH DIFFERENTIAL TO {place}")
    bank.daemon.sql(f"RESTORE DATABASE bank AS again FROM {place}")
    bank.daemon.sql(f"RESTORE DATABASE bank AS before FROM {place} WITH FILE = 1")
    balances = [int(bank.source.value("SELECT sum(balance)::bigint FROM accounts", name)) for name in ("bank", "again", "before")]
    assert balances[0] == balances[1] == balances[2] + 1
    row = bank.daemon.sql(f"SELECT * FROM information_schema.mv_backup_history WHERE backup_id = {first}").one()
    assert row["status"] == "Success" and row["type"] == "INCR_INIT"
    shown = bank.daemon.log_text() + str(bank.daemon.sql("SHOW JOBS").rows) + str(
        bank.daemon.sql("SELECT * FROM information_schema.mv_backup_history").rows)
    assert secret not in shown
    wrong = place.replace(secret, "not-the-secret-of-this")
    error = bank.daemon.error(f"BACKUP DATABASE bank TO {wrong}")
    assert "not-the-secret" not in str(error) + bank.daemon.log_text()
