UPDATE invoices SET paid = true, remark = 'edited', updated_at = clock_timestamp() WHERE number = 'R-5';
